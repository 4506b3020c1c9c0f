"""`mail-gateway serve`, the daemon, and `mail-gateway dev`, the same for a first try: everything is captured."""

import argparse
import asyncio
import contextlib
import errno
import faulthandler
import gc
import ipaddress
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import activation, config, configfile, observe, runtime, watchdog
from gateway.cli import arguments as values
from gateway.cli import datadir, floors
from gateway.errors import GatewayError, Problem
from gateway.policy import auth

if TYPE_CHECKING:
    from gateway.app import Gateway

log = logging.getLogger("gateway")

EXIT_FAILED = 1
EXTEND_S = 30  # that a start may go on for, each time it says that it is alive
_SIMULATOR = "simulator.test"  # no domain of the Internet (RFC 6761, 6.2)
_THIS_MACHINE = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))  # where dev's webhooks are
DESCRIPTORS = 65_536  # more than both doors and all deliveries use by default


class ListenError(GatewayError):
    """An address cannot be listened on."""


class DevError(GatewayError):
    """A first try cannot begin like this."""


@contextlib.contextmanager
def _beginning() -> Iterator[None]:
    """Signals up to `_heed_signals`: nothing was taken yet, so a stop is the end, and the configuration is new."""

    def end(*_: object) -> None:
        os._exit(0)

    heeded = ((signal.SIGHUP, signal.SIG_IGN), (signal.SIGINT, end), (signal.SIGTERM, end))
    before = [(number, signal.signal(number, handler)) for number, handler in heeded]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    serve = verbs.add_parser("serve", parents=[common], help="run the daemon")
    serve.set_defaults(run=_serve)

    dev = verbs.add_parser("dev", help="try it: no configuration, mail is captured, nothing leaves the machine")
    dev.add_argument("--data-dir", type=Path, default=Path("var"), metavar="DIR", help="default: ./var")
    for name, address in (("--http", "127.0.0.1:8025"), ("--smtp", "127.0.0.1:2525")):
        dev.add_argument(
            name, type=values.listen, default=values.listen(address), metavar="HOST:PORT", help=f"default: {address}"
        )
    dev.set_defaults(run=_dev)


@_beginning()
def _serve(arguments: argparse.Namespace) -> int:
    floors.require()
    warnings: list[Problem] = []
    settings = configfile.load(arguments.config, warn=warnings.append)
    datadir.become_owner(settings.data_dir)
    observe.setup_logging(settings.log.level, as_json=settings.log.format == "json")
    for warning in warnings:
        log.warning("%s: %s", settings.path, warning)
    return _run(_daemon(settings, lambda _: None))


@_beginning()
def _dev(arguments: argparse.Namespace) -> int:
    floors.require()
    if arguments.config is not None:
        raise DevError("dev takes no configuration (-c): mail-gateway serve does")
    datadir.become_owner(arguments.data_dir)
    secret = _dev_secret(arguments.data_dir)
    settings = config.Config(
        hostname="localhost",
        data_dir=arguments.data_dir.absolute(),
        http=config.Http(
            (config.HttpListener(arguments.http),), admin=arguments.http, public_url=f"http://{arguments.http}"
        ),
        smtp=config.Smtp((config.SmtpListener(arguments.smtp, plaintext_auth=True),)),
        routes={"inbox": config.CaptureRoute("inbox")},
        default_route="inbox",
        keys={"dev": config.KeyConfig("dev", config.Secret(secret), "dev", scopes=("send", "read", "manage"))},
        webhooks=config.Webhooks(allow_http=True, allow_networks=_THIS_MACHINE),
        simulator=_SIMULATOR,
    )
    observe.setup_logging("info", as_json=False)
    return _run(_daemon(settings, lambda gateway: _welcome(gateway, secret)))


def _dev_secret(data_dir: Path) -> str:
    """The same key at every start in one data directory."""
    path = data_dir / "dev.key"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return _checked(path.read_text().strip(), path)
        secret = auth.make_key()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"{path.name} is not text"
        raise DevError(f"{data_dir} cannot be used: {why}; choose another with --data-dir") from error
    return secret


def _checked(secret: str, path: Path) -> str:
    if len(secret) < auth.MIN_LENGTH:  # a start that was interrupted may leave an empty file, and anybody knows ""
        raise DevError(f"{path} holds no key: remove it, and a new one is made")
    return secret


def _welcome(gateway: "Gateway", secret: str) -> None:
    http, smtp = gateway.http.addresses[0], gateway.smtp.addresses[0]
    print(
        f"""Mail Gateway takes mail. Everything is captured; nothing leaves this machine.

key: {secret}

HTTP on {http}:
  curl http://{http}/api/v1/emails/send -H 'Authorization: Bearer {secret}' -H 'Content-Type: application/json' \\
    -d '{{"from": "me@example.com", "to": "you@example.net", "subject": "Hello", "text": "It works."}}'

SMTP on {smtp}:
  swaks --server {smtp} --auth PLAIN --auth-user dev --auth-password {secret} \\
    --from me@example.com --to you@example.net --header 'Subject: Hello' --body 'It works.'

Addresses at {_SIMULATOR} play a part: bounce@, defer+3@, complain@, open@ ... (docs/howto/simulator.md).

Ctrl-C stops it. What happens to mail is told below.""",
        flush=True,
    )


async def _daemon(settings: config.Config, ready: Callable[["Gateway"], None]) -> int:
    """Run until SIGTERM or SIGINT; a second signal does not wait for deliveries. SIGHUP reads the configuration
    again."""
    from gateway.app import Gateway  # other commands do without its half a second

    stop = asyncio.Event()
    gateway = Gateway(settings, handed=activation.receive(), watchdog_s=watchdog.period_s())
    _heed_signals(stop, gateway.reload_asked)
    stopping = gateway.supervisor.start(stop.wait(), name="wait for a signal")
    await _open(gateway, stopping)
    gc.freeze()  # what is here now stays: the collector need not look at it again
    ready(gateway)
    runtime.notify_systemd("READY=1")
    await asyncio.wait({stopping, gateway.fatal}, return_when=asyncio.FIRST_COMPLETED)
    runtime.notify_systemd("STOPPING=1\nSTATUS=stopping: what is on the wire may end")
    await gateway.close()
    if gateway.fatal.done():
        print(f"mail-gateway: stopped: {gateway.fatal.result()}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _heed_signals(stop: asyncio.Event, reload_asked: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def asked_to_stop() -> None:
        if stop.is_set():
            os._exit(EXIT_FAILED)  # what is in hand is taken up at the next start
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    loop.add_signal_handler(signal.SIGHUP, reload_asked.set)


async def _open(gateway: "Gateway", stopping: "asyncio.Task[Any]") -> None:
    """Start everything; a stop that is asked for before the store is open ends the process. Raises GatewayError."""
    opening = gateway.supervisor.start(_fault_of(gateway.open()), name="open")
    while not opening.done():
        watched = {opening} if stopping.done() else {opening, stopping}
        done, _ = await asyncio.wait(watched, timeout=EXTEND_S / 2, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done() and gateway.opening:
            # Nothing was taken and nothing is in hand. A migration is one transaction: the next start begins it anew.
            os._exit(0)
        if not done:
            # A migration of a large database takes its time, and systemd's patience ends after TimeoutStartSec=.
            runtime.notify_systemd(f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1_000_000}\nSTATUS=starting: opening the store")
    if (fault := opening.result()) is not None:
        raise fault


async def _fault_of(opening: Coroutine[Any, Any, None]) -> Exception | None:
    """What a start fails with; it is told to who asked, not to the log."""
    try:
        await opening
    except OSError as error:
        return ListenError(_explain(error))
    except Exception as error:  # noqa: BLE001 - raised again by who asked
        return error
    return None


def _explain(error: OSError) -> str:
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno == errno.EADDRINUSE:
        options = "dev: --http, --smtp; serve: http.listeners, http.admin, smtp.listeners"
        return f"{error.strerror}: choose another address ({options})"
    if error.errno == errno.EACCES:
        return f"{error.strerror}: a port below 1024 needs CAP_NET_BIND_SERVICE (the systemd unit has it)"
    return str(error)


def _run(daemon: Coroutine[Any, Any, int]) -> int:
    """On uvloop where it is installed: a third less CPU per message."""
    _raise_descriptors()
    faulthandler.enable()  # a watchdog's SIGABRT then shows in the log where every thread was
    try:
        import uvloop
    except ImportError:
        return asyncio.run(daemon)
    return uvloop.run(daemon)


def _raise_descriptors() -> None:
    """Have as many open files as we may: the soft limit (1,024) is for programs that select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
