"""Secrets stay where they are (S12): canaries go through success and failure by every way in, and are looked for.

What is read: the log as text and as JSON (with the traceback of a fault of ours), every answer of both doors, what the
commands print, the events of the queue, and the titles of the processes. Left out is what is meant to be seen: the text
of a new key, and the header of a message.
"""

import asyncio
import base64
import http.client
import json
import random
import re
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.mx import Do, FakeMx
from tests.peers.client import message_bytes, message_json
from tests.peers.daemon import ROOT, Daemon, broken_twin, dkim_domain
from tests.peers.process import descendants, wait_until

pytestmark = pytest.mark.slow

KEY = "canary-key-Zm7Qk2Wp9Xv4Lt6R"
RELAY_PASSWORD = "canary-relay-password-8Hs3Jd"
PASSING_PASSWORD = "canary-passing-password-5Gf1"
BODY = "canary-body-text-4Tn7Bz"
TEMPLATE = "canary-template-text-2Vc8My"
PLAIN = {"key": KEY, "relay password": RELAY_PASSWORD, "passing password": PASSING_PASSWORD, "body": BODY}
RECIPIENT = "you@example.net"
OFFERS = ("PIPELINING", "8BITMIME", "AUTH PLAIN LOGIN")
UNIT = ROOT / "systemd" / "mail-gateway.service"

# A fault of ours in each door and in what judges keys: the tracebacks are what is looked at.
CRASHES = """

_submit, _begin, _judge = HttpDoor.submit, SmtpDoor.begin, KeyRing.judge


async def _crash_submit(self, principal, submission, **more):
    if submission.subject == "crash":
        return {}[submission.text]
    return await _submit(self, principal, submission, **more)


def _crash_begin(self, principal, envelope):
    if envelope.sender.startswith("crash"):
        raise TypeError("a fault of ours")
    return _begin(self, principal, envelope)


def _crash_judge(self, text, now_ms, **more):
    if text.endswith("crash"):
        raise ValueError("a fault of ours")
    return _judge(self, text, now_ms, **more)


HttpDoor.submit, SmtpDoor.begin, KeyRing.judge = _crash_submit, _crash_begin, _crash_judge
"""
SOUND = CRASHES.replace("return {}[submission.text]", 'raise KeyError("a fault of ours")')


def canaries(pem: str) -> dict[str, str]:
    """What must not be seen, by what it is: each secret as it is, and as base64 wherever it might begin in it."""
    found = dict(PLAIN) | {"template": TEMPLATE}
    for name, secret in PLAIN.items():
        for shift in range(3):
            encoded = base64.b64encode(b"\0" * shift + secret.encode()).decode()
            found[f"{name} as base64 {shift}"] = encoded[4:-4]
    lines = [line for line in pem.splitlines() if not line.startswith("-")]
    return found | {f"line {number} of the DKIM key": line for number, line in enumerate(lines)}


class Seen:
    """Everything that was said, by who said it."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def add(self, where: str, text: str) -> None:
        self.texts.append((where, text))

    def hits(self, secrets: Mapping[str, str]) -> list[str]:
        return [
            f"{where} shows the {what}: {text[max(0, text.find(secret) - 80) :][:200]}"
            for where, text in self.texts
            for what, secret in secrets.items()
            if secret in text
        ]


def settings(directory: Path, relay: FakeMx, passing: FakeMx, form: str) -> tuple[dict[str, Any], str]:
    """(configuration, the DKIM key's PEM)."""
    domain, _ = dkim_domain(directory, "example.com")
    texts = {"shop": KEY, "relayed": KEY[::-1], "reader": f"reader-{KEY[::-1]}"}
    for name, text in {**texts, "relay": RELAY_PASSWORD}.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)
    pem = (directory / "example.com.pem").read_text()
    return {
        **domain,
        "routes": {
            "here": {"type": "capture"},
            "relay": {
                "type": "relay",
                "host": "127.0.0.1",
                "port": relay.port,
                "tls": "none",
                "username": "gateway",
                "password": {"file": str(directory / "relay")},
            },
        },
        "default_route": "here",
        "keys": {
            "shop": {"secret": {"file": str(directory / "shop")}, "account": "shop", "from": ["*@example.com"]},
            "relayed": {"secret": {"file": str(directory / "relayed")}, "account": "shop", "route": "relay"},
            "reader": {"secret": {"file": str(directory / "reader")}, "account": "shop", "scopes": ["read"]},
        },
        "local": {"key": "shop", "socket": str(directory / "submit.sock")},
        "pass_through": {"relays": [f"{passing.address}:{passing.port}"], "networks": ["127.0.0.0/8"]},
        "limits": {"auth_failures": "100000/min"},
        "log": {"level": "debug", "format": form},
    }, pem


# By HTTP


def by_http(daemon: Daemon, seen: Seen, passing: str) -> None:
    mail = message_json(RECIPIENT, text=BODY)
    bearer = {"Authorization": f"Bearer {KEY}"}
    for what, body, headers in (
        ("sent", mail, bearer),
        ("replayed", mail, bearer | {"Idempotency-Key": "once"}),
        ("in conflict", mail | {"subject": "other"}, bearer | {"Idempotency-Key": "once"}),
        ("not JSON", json.dumps(mail).encode()[:-1] + BODY.encode(), bearer),
        ("an unknown field", mail | {"bodie": BODY, "password": RELAY_PASSWORD}, bearer),
        ("fields of other types", mail | {"text": [BODY], "attachments": BODY, "variables": BODY}, bearer),
        ("no base64", mail | {"attachments": [{"filename": "a", "content": f"{BODY}!"}]}, bearer),
        ("not ours to send", mail | {"from": "boss@example.org"}, bearer),
        ("no recipient", mail | {"to": []}, bearer),
        ("an unknown variable", mail | {"text": BODY + " {{missing}}", "variables": {"a": BODY}}, bearer),
        ("a template with a hole", {**mail, "text": None, "template": "hole", "variables": {"a": BODY}}, bearer),
        ("no template", mail | {"text": None, "template": BODY[:20]}, bearer),
        ("a crash", mail | {"subject": "crash"}, bearer),
        ("a wrong key", mail, {"Authorization": f"Bearer {KEY}x"}),
        ("a crash over a key", mail, {"Authorization": f"Bearer {KEY}crash"}),
        ("no scheme", mail, {"Authorization": KEY}),
        ("the key twice", mail, {"Authorization": f"Bearer {KEY} {KEY}"}),
        ("no scope", mail, {"Authorization": f"Bearer reader-{KEY[::-1]}"}),
        ("another type", mail, bearer | {"Content-Type": "text/plain"}),
        ("compressed", mail, bearer | {"Content-Encoding": "gzip"}),
    ):
        post(daemon, seen, f"HTTP, {what}", "/api/v1/emails/send", body, headers)
    hole = {"alias": "bad", "subject": "s", "text": TEMPLATE + " {{#each}} {{"}
    post(daemon, seen, "HTTP, a bad template", "/api/v1/templates", hole, bearer)
    for path in (f"/api/v1/emails/{KEY}", f"/api/v1/{KEY}", f"/api/v1/me?key={KEY}"):
        ask(daemon, seen, f"HTTP, {path}".replace(KEY, "KEY"), "GET", path, b"", bearer)
    raw_http(daemon, seen, f"GET /api/v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{KEY}\r\n\r\n")
    raw_http(daemon, seen, f"{KEY} / HTTP/1.1\r\n\r\n")
    named = {"server": passing, "username": "me@example.com", "password": PASSING_PASSWORD}
    letter = {"from": "me@example.com", "to": RECIPIENT, "subject": "Hi", "body": BODY}
    for what, more in (
        ("refused by the relay", {}),
        ("an unlisted relay", {"server": "127.9.9.9"}),
        ("no relay", {"server": PASSING_PASSWORD}),
        ("a password that is none", {"password": PASSING_PASSWORD + "\x07"}),
        ("a field too many", {"passwort": PASSING_PASSWORD}),
        ("our own key", {"server": "gateway.test", "password": KEY + "x"}),
    ):
        post(daemon, seen, f"pass-through, {what}", "/overton/", named | letter | more, {})


def post(daemon: Daemon, seen: Seen, where: str, path: str, body: Any, headers: Mapping[str, str]) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    ask(daemon, seen, where, "POST", path, content, {"Content-Type": "application/json", **headers})


def ask(
    daemon: Daemon, seen: Seen, where: str, method: str, path: str, content: bytes, headers: Mapping[str, str]
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=30)
    try:
        connection.request(method, path, body=content, headers=dict(headers))
        response = connection.getresponse()
        seen.add(where, f"{response.status} {response.headers}\n{response.read().decode()}")
    finally:
        connection.close()


def raw_http(daemon: Daemon, seen: Seen, request: str) -> None:
    with socket.create_connection(("127.0.0.1", daemon.http_port), timeout=30) as client:
        client.sendall(request.encode())
        client.shutdown(socket.SHUT_WR)
        seen.add("HTTP, what is no request", b"".join(iter(lambda: client.recv(65536), b"")).decode())


# By SMTP


def by_smtp(daemon: Daemon, seen: Seen) -> None:
    for what, auth in (
        ("a wrong key", _plain(KEY + "x")),
        ("a crash over a key", _plain(KEY + "crash")),
        ("no base64", "AUTH PLAIN " + _base64(KEY) + "!"),
        ("half of it", "AUTH PLAIN " + _base64(f"\0{KEY}")),
        ("another mechanism", f"AUTH {KEY} {_base64(KEY)}"),
        ("the key as a command", KEY),
        ("the key as a name", f"EHLO {KEY} {KEY}"),
    ):
        with smtp(daemon) as client:
            reply(client, seen, f"SMTP, {what}", auth)
    with smtp(daemon) as client:
        for word in ("AUTH LOGIN", _base64(KEY), _base64(KEY + "x"), f"MAIL FROM:<{KEY}@@> {KEY}=1"):
            reply(client, seen, "SMTP, LOGIN the wrong way round", word)
    whole = message_bytes(RECIPIENT).decode() + f"{BODY}\r\n"
    for what, sender, content in (
        ("sent", "shop@example.com", whole),
        ("a crash", "crash@example.com", whole),
        ("two From fields", "shop@example.com", "From: a@example.com\r\n" + whole),
        ("not ours to send", "shop@example.com", "From: a@example.org\r\n\r\n" + BODY),
        ("a NUL", "shop@example.com", whole + "\0\r\n"),
        ("a bad control header", "shop@example.com", f"X-Gateway-Metadata: {BODY}\r\n" + whole),
        ("no header at all", "shop@example.com", BODY + "\r\n" + BODY + "\r\n"),
    ):
        with smtp(daemon) as client:
            for line in (_plain(KEY), f"MAIL FROM:<{sender}>", f"RCPT TO:<{RECIPIENT}>", "DATA"):
                reply(client, seen, f"SMTP, {what}", line)
            client.send(content.encode() + b"\r\n.\r\n")  # smtplib's own way would make CRLF of what is bare
            seen.add(f"SMTP, {what}", str(client.getreply()))


def smtp(daemon: Daemon) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", daemon.smtp_port, local_hostname="client.test", timeout=30)
    client.ehlo()
    return client


def reply(client: smtplib.SMTP, seen: Seen, where: str, line: str) -> None:
    code, text = client.docmd(line)
    seen.add(where, f"{code} {text.decode()}")


def _plain(secret: str) -> str:
    return "AUTH PLAIN " + _base64(f"\0client\0{secret}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# By the shell


def by_shell(daemon: Daemon, seen: Seen, ids: Iterable[str]) -> None:
    text = daemon.directory / "body"
    text.write_text(BODY)
    mail = ("send", "--from", "me@example.com", "--to", RECIPIENT, "--subject", "Hi", "--text", str(text))
    for arguments, stdin in (
        (("check",), ""),
        (("config", "show", "--effective"), ""),
        (("key", "list"), ""),
        (("key", "show", "shop"), ""),
        (("key", "create", "of-my-own", "--secret-stdin"), f"{KEY}{BODY}\n"),
        (("key", "create", "taken", "--secret-stdin"), f"{KEY}\n"),
        (("key", "create", "bad", "--secret-stdin"), f"{KEY} {KEY}\n"),
        (("key", "rotate", "of-my-own", "--secret-stdin"), f"{KEY}{KEY}\n"),
        (("key", "rotate", "shop", "--secret-stdin"), f"{KEY}\n"),
        ((*mail, "--key", "shop"), ""),
        ((*mail, "--key", "nobody"), ""),
        (("template", "list", "--account", "shop"), ""),
        (("template", "add", "bad", "--account", "shop", "--text", "-"), TEMPLATE + " {{"),
        (("sendmail", "-t"), f"From: me@example.com\nTo: {RECIPIENT}\n\n{BODY}\n"),
        (("sendmail", "-t"), f"From: me@example.com\nTo: {RECIPIENT}\nX-Gateway-Metadata: {BODY}\n\n{BODY}\n"),
        (("sendmail", "-t", "-f", "me@example.org"), f"To: {RECIPIENT}\nFrom: me@example.org\n\n{BODY}\n"),
        (("sendmail", "-t"), f"{BODY}\n"),
        (("domain", "list"), ""),
        (("queue", "list", "--json"), ""),
        (("queue", "summary"), ""),
        *((("queue", "show", id_, "--json"), "") for id_ in ids),
    ):
        # A name that holds the key is what the caller said himself; `key create` prints no text that came from stdin.
        shell(daemon, seen, *arguments, stdin=stdin)


def shell(daemon: Daemon, seen: Seen, *arguments: str, stdin: str = "") -> None:
    """A command that shows no secret, whether it succeeds or not."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "-c", str(daemon.config), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    seen.add(" ".join(arguments), done.stdout + done.stderr)


def deliver_and_fail(daemon: Daemon, seen: Seen) -> str:
    """A message for the relay, that refuses our password and repeats it; its id."""
    post(
        daemon,
        seen,
        "HTTP, for the relay",
        "/api/v1/emails/send",
        message_json(RECIPIENT, text=BODY),
        {"Authorization": f"Bearer {KEY[::-1]}"},
    )
    found = re.search(r"eml_[a-z0-9]{24}", seen.texts[-1][1])
    assert found is not None, seen.texts[-1]
    id_ = found[0]
    wait_until(lambda: any(id_ in line and "deferred" in line for line in lines(daemon)), "an attempt at the relay")
    return id_


def lines(daemon: Daemon) -> list[str]:
    return daemon.log.read_text(errors="replace").splitlines()


def go_through(daemon: Daemon, passing: str) -> Seen:
    """Everything that can happen, and all that was said of it."""
    seen = Seen()
    daemon.cli(
        *("template", "add", "hole", "--account", "shop", "--subject", "s", "--text", "-"),
        stdin=f"{TEMPLATE} {{{{b}}}}",
    )
    by_http(daemon, seen, passing)
    by_smtp(daemon, seen)
    ask(daemon, seen, "metrics", "GET", "/metrics", b"", {})
    id_ = deliver_and_fail(daemon, seen)
    by_shell(daemon, seen, [id_])
    for pid in descendants(daemon.pid):
        seen.add(f"the title of process {pid}", Path(f"/proc/{pid}/cmdline").read_text())
    assert daemon.running
    seen.add("the exit", str(daemon.stop()))
    seen.add("the log", daemon.log.read_text())
    return seen


async def look(tmp_path: Path, source: Path, form: str) -> tuple[Seen, dict[str, str]]:
    """(what was said, what must not be in it)."""
    echo = {"AUTH": lambda line: Do(f"535 5.7.8 {line} is wrong, {RELAY_PASSWORD[:4]}")}
    address = "127." + ".".join(str(random.randrange(1, 255)) for _ in range(3))
    async with (
        FakeMx(echo, offers=OFFERS) as relay,
        FakeMx(echo, offers=OFFERS, address=address, port=2525) as passing,
    ):
        directory = tmp_path / "secrets"
        directory.mkdir()
        configured, pem = settings(directory, relay, passing, form)
        with Daemon(tmp_path / "gw", configured, source=source) as daemon:
            seen = await asyncio.to_thread(go_through, daemon, address)
        assert relay.conversations
        assert passing.conversations
    return seen, canaries(pem)


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_canary_is_ever_seen(tmp_path: Path, form: str) -> None:
    source = broken_twin(tmp_path / "twin", "doors.py", "fault or", "fault or", more=SOUND)
    seen, secrets = await look(tmp_path, source, form)
    hits = seen.hits(secrets)
    assert not hits, "\n\n".join(hits)
    log = seen.texts[-1][1]
    assert log.count("a fault of ours") >= 4, "nothing crashed, so no traceback was looked at"
    assert "Traceback" in log
    for where in ("HTTP, sent", "SMTP, sent"):
        assert any(text.startswith(("201", "(250")) for place, text in seen.texts if place == where)


async def test_a_gateway_that_logs_the_key_is_found_out(tmp_path: Path) -> None:
    source = broken_twin(tmp_path / "twin", "doors.py", 'peer, fault or ""', "peer, str(fault) + secret", more=SOUND)
    seen, secrets = await look(tmp_path, source, "text")
    assert any(hit.startswith("the log shows the key") for hit in seen.hits(secrets))


async def test_a_traceback_that_shows_a_body_is_found_out(tmp_path: Path) -> None:
    source = broken_twin(tmp_path / "twin", "doors.py", "fault or", "fault or", more=CRASHES)
    seen, secrets = await look(tmp_path, source, "json")
    assert any(hit.startswith("the log shows the body") for hit in seen.hits(secrets))


def test_a_crash_of_the_process_leaves_no_core() -> None:
    assert re.search(r"^LimitCORE=0$", UNIT.read_text(), flags=re.MULTILINE)
