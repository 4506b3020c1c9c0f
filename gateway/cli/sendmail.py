"""`mail-gateway sendmail`, a sendmail(8): what cron, PHP, git and mailx call. Also as a program named `sendmail`.

Guarantees: it asks the running daemon and never opens the store; exit codes are those of sysexits.h (0 taken for good,
64 usage, 65 the message or an address, 67 a name without a domain that the key does not know, 75 the daemon is away or
says later, 77 not allowed, 78 the configuration), and nothing is sent but with 0. Options of other sendmails mean what
Postfix makes of them, or are refused in words. It keeps no mail itself.
"""

import argparse
import os
import pwd
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from gateway import configfile
from gateway.cli import letter, output
from gateway.cli.handover import (
    EX_CONFIG,
    EX_DATAERR,
    EX_OK,
    EX_TEMPFAIL,
    EX_USAGE,
    NO_WISHES,
    Handover,
    Rejected,
    Wishes,
)
from gateway.config import DATA_DIR, default_path
from gateway.configfile.local import RUN_SOCKET, SOCKET_NAME
from gateway.errors import ConfigError

NAMES: Final = ("sendmail", "newaliases", "mailq")  # what a link to the program may be called
MAX_BYTES: Final = 1_000_000_000  # the largest max_message there is
_HELP: Final = "usage: sendmail [-t] [-i] [-f ADDRESS] [-F NAME] [-N NOTIFY] [-v] [-bs] [-C FILE] [RECIPIENT ...]"
_WITH_VALUE: Final = frozenset("ABCFLNORVXbefhopr")
_FLAGS: Final = frozenset("GIUimntvx")
# Of these, what other sendmails take has no meaning here: who submits (A, G, U), body type (B, found out), where errors
# go (e, always printed), hops (h), aliases (m, n), settings (O, o but i), protocol (p), logs (L, X, x).
_NOTICES: Final = frozenset(("SUCCESS", "FAILURE", "DELAY"))  # RFC 3461, 4.1
_MAX_ENVID: Final = 100  # characters, RFC 3461 4.4
_PLAIN: Final = re.compile(r"\w+([.+-]+\w+)*", re.ASCII)  # a user name that is a local part: not DOMAIN\\user
_MODES: Final = {
    "d": "the daemon is `mail-gateway serve`",
    "D": "the daemon is `mail-gateway serve`",
    "p": "the queue is shown by `mail-gateway queue list`",
    "v": "addresses are not verified here",
    "t": "there is no test mode",
    "h": "there is no host status",
    "H": "there is no host status",
}


@dataclass(slots=True)
class Options:
    """A command line. `mode` is the letter of -b. `sender` None: the calling user."""

    recipients: list[str] = field(default_factory=list)
    mode: str = "m"
    from_header: bool = False
    dot_ends: bool = True
    verbose: bool = False
    sender: str | None = None
    name: str | None = None
    config: Path | None = None
    wishes: Wishes = NO_WISHES


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    """As a verb; its arguments are read here, not by argparse: they are older than it. `common` is not taken."""
    del common
    verb = verbs.add_parser(
        "sendmail", help="a sendmail(8) for programs of this machine", prefix_chars="\0", add_help=False
    )
    verb.add_argument("arguments", nargs=argparse.REMAINDER)
    verb.set_defaults(run=lambda parsed: main(["sendmail", *parsed.arguments], config=parsed.config))


def main(argv: Sequence[str], *, config: Path | None = None) -> int:
    """Run as `argv[0]` with these arguments; the exit code."""
    program = Path(argv[0]).name
    if "--help" in argv[1:2]:
        print(_HELP)
        return EX_OK
    try:
        options = parse(argv[1:])
        if program == "newaliases" or options.mode == "i":
            return EX_OK  # there is no database of aliases: they are in the configuration, at each key
        if program == "mailq":
            _usage(_MODES["p"])
        options.config = options.config or config
        return _speak(options) if options.mode == "s" else _send(options)
    except Rejected as error:
        print(output.clean(f"{program}: {error}"), file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return EX_TEMPFAIL


def parse(arguments: Sequence[str]) -> Options:
    """Read the options of sendmail(8). Raises Rejected (EX_USAGE)."""
    options = Options()
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            options.recipients += rest
        elif options.recipients or not argument.startswith("-") or argument == "-":
            options.recipients += [argument, *rest]
        else:
            _read(options, argument[1:], rest)
    for recipient in options.recipients:
        if recipient.startswith("-"):  # an option in the wrong place, or one that somebody slipped in
            _usage(f"{recipient}: a recipient does not begin with -")
    return options


def _read(options: Options, letters: str, rest: Iterator[str]) -> None:
    """One argument: flags, then an option with its value, in it or behind it."""
    while letters:
        one, letters = letters[0], letters[1:]
        if one == "q":
            _usage("the queue is run by the daemon; `mail-gateway queue retry` tries now")
        if one in _FLAGS:
            _flag(options, one)
        elif one in _WITH_VALUE:
            value = letters or next(rest, None)
            if value is None:
                _usage(f"-{one} needs a value")
            _value(options, one, value)
            return
        elif one == "d":
            return  # debugging of theirs, with its level
        else:
            _usage(f"-{one} is no option here")


def _flag(options: Options, one: str) -> None:
    match one:
        case "i":
            options.dot_ends = False
        case "t":
            options.from_header = True
        case "v":
            options.verbose = True
        case "I":
            options.mode = "i"
        case _:
            pass  # no meaning here, see above


def _value(options: Options, one: str, value: str) -> None:
    match one:
        case "b":
            if value not in {"m", "s", "i"}:
                _usage(_MODES.get(value, f"-b{value} is no mode here"))
            options.mode = value
        case "f" | "r":
            options.sender = value
        case "F":
            options.name = value
        case "C":
            options.config = Path(value)
        case "o":
            options.dot_ends = options.dot_ends and value != "i"
        case "N":
            words = value.upper().split(",")
            if words != ["NEVER"] and not set(words) <= _NOTICES:
                _usage(f"-N {value}: never, or a list of success, failure and delay")
            options.wishes = options.wishes._replace(notify=",".join(words))
        case "R":
            if value.upper() not in {"FULL", "HDRS"}:
                _usage(f"-R {value}: full or hdrs")
            options.wishes = options.wishes._replace(ret=value.upper())
        case "V":
            if not value.isascii() or not value.isprintable() or not 0 < len(value) <= _MAX_ENVID:
                _usage(f"-V: 1 to {_MAX_ENVID} printable ASCII characters")
            options.wishes = options.wishes._replace(envid=value)
        case _:
            pass  # no meaning here, see above


def _usage(text: str) -> NoReturn:
    raise Rejected(EX_USAGE, text)


def _send(options: Options) -> int:
    if not options.recipients and not options.from_header:
        _usage("name the recipients, or -t to take those of the message")
    # Read before anything else: what writes it may take its time, and the daemon would not wait so long.
    message = letter.read(_standard_input(), dot_ends=options.dot_ends)
    recipients = [one for text in options.recipients for one in letter.addresses(text)]
    if options.from_header:
        recipients += message.recipients
    if not recipients:
        raise Rejected(EX_DATAERR, "the message names no recipient")
    user, full_name = _caller()
    sender = user if options.sender is None else _one(options.sender)
    for address in (sender, *recipients):
        _check(address)
    name = full_name if options.name is None else options.name
    content = message.with_from(name, sender or user)
    with _daemon(options) as daemon:
        said = daemon.send(sender, list(dict.fromkeys(recipients)), content, options.wishes)
    if options.verbose:
        print(output.clean(said))
    return EX_OK


def _speak(options: Options) -> int:
    """-bs: SMTP by standard input and output, as some mail programs want it."""
    with _daemon(options) as daemon:
        daemon.relay(sys.stdin.fileno(), sys.stdout.fileno())
    return EX_OK


def _standard_input() -> bytes:
    try:
        with open(0, "rb", closefd=False) as source:
            raw = source.read(MAX_BYTES + 1)
    except OSError as error:
        raise Rejected(EX_DATAERR, f"standard input cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise Rejected(EX_DATAERR, f"the message is larger than {MAX_BYTES} bytes")
    return raw


def _one(sender: str) -> str:
    """The address of -f, which may have a name; "": the null sender."""
    found = letter.addresses(sender)
    if len(found) > 1:
        _usage(f"-f {sender}: only one sender")
    return found[0] if found else ""


def _check(address: str) -> None:
    """Nothing that would be more than an address in a command. What an address is, the daemon knows."""
    if not address.isprintable():  # lone surrogates and line ends too
        raise Rejected(EX_DATAERR, f"{address!a} is no address")


def _caller() -> tuple[str, str]:
    """(user name, full name) of who calls."""
    uid = os.getuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a user without a name, as in a container
        return f"uid-{uid}", ""
    # The first field of GECOS, where & stands for the name.
    full_name = entry.pw_gecos.partition(",")[0].replace("&", entry.pw_name.capitalize())
    return (entry.pw_name if _PLAIN.fullmatch(entry.pw_name) else f"uid-{uid}"), full_name


def _daemon(options: Options) -> Handover:
    """Connected to the daemon. Raises Rejected."""
    path = options.config or default_path()
    # Most callers cannot read the configuration: then the daemon is where it is unless something else was said.
    if options.config is None and not os.access(path, os.R_OK):
        return Handover.open([RUN_SOCKET, DATA_DIR / SOCKET_NAME], configured=False)
    try:
        named = configfile.read_local_socket(path)
        if named is not None:
            return Handover.open([named], configured=True)
        return Handover.open([RUN_SOCKET, configfile.read_data_dir(path) / SOCKET_NAME], configured=False)
    except ConfigError as error:
        raise Rejected(EX_CONFIG, "; ".join(map(str, error.problems))) from error
