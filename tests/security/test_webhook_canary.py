"""Secrets of webhooks stay where they are (S12): each is in the answer that makes it and in none besides, nor in the
log, the figures, the files of the data directory or a backup. test_canary.py looks for the other secrets.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.peers.client import message_json
from tests.peers.daemon import SECRET, Daemon, broken_twin
from tests.peers.process import wait_until
from tests.scenarios.test_webhooks import Program
from tests.security.test_canary import Seen, ask, post, shell

pytestmark = pytest.mark.slow

RAW: Final = {name: f"canary-of-webhooks-{name:_<13}" for name in ("chosen", "posted", "rotated", "misplaced")}
TEXT: Final = {name: "whsec_" + base64.b64encode(raw.encode()).decode() for name, raw in RAW.items()}
CANARIES: Final = RAW | {f"{name} in base64": text.removeprefix("whsec_") for name, text in TEXT.items()}
BEARER: Final = {"Authorization": f"Bearer {SECRET}"}
PATH: Final = "/api/v1/webhooks"
SETTINGS: Final = {
    "routes": {"here": {"type": "capture"}},
    "default_route": "here",
    "webhooks": {"allow_http": True, "allow_networks": ["127.0.0.0/8"], "retry": ["1s"]},
    "log": {"level": "debug"},
}
# A fault of ours as a request is signed, for its traceback.
CRASH: Final = """

_sound = Sender._headers


def _crash(self, format_, payload, secrets, attempt):
    if b"crash@" in payload.body and attempt == 1:
        raise TypeError("a fault of ours")
    return _sound(self, format_, payload, secrets, attempt)


Sender._headers = _crash
"""


@pytest.fixture
def program() -> Iterator[Program]:
    one = Program()
    yield one
    one.close()


def made(daemon: Daemon, path: str, name: str, body: dict[str, Any]) -> Any:
    """What is made with a secret that somebody chose, which the answer shows."""
    answers = Seen()
    post(daemon, answers, name, path, body | {"secret": TEXT[name]}, BEARER)
    [(_, answer)] = answers.texts
    assert TEXT[name] in answer
    return json.loads(answer[answer.index("\n{") :])["data"]


def go_through(daemon: Daemon, program: Program) -> Seen:
    """Everything that is done with webhooks, and all that was said of it but the three answers that show a secret."""
    seen = Seen()
    add = ("webhook", "add", program.url, "--account", "shop")
    shown = daemon.cli(*add, "--secret-stdin", stdin=TEXT["chosen"] + "\n")
    assert TEXT["chosen"] in shown
    mine = made(daemon, PATH, "posted", {"url": program.url})
    one = f"{PATH}/{mine['id']}"
    made(daemon, f"{one}/rotate", "rotated", {})
    by_http(daemon, seen, program, one)
    program.status = lambda told: 500 if told["data"].get("recipient") == "fail@example.net" else 200
    for to in ("ann@example.net", "crash@example.net", "fail@example.net"):
        post(daemon, seen, f"mail to {to}", "/api/v1/emails/send", message_json(to), BEARER)
    wait_until(lambda: daemon.log.read_text().count("it answered 500") >= 2, "nothing was given up", 60)
    for path in (PATH, one, f"{one}/attempts", f"{one}/dead", "/api/v1/events", "/api/v1/me", "/metrics"):
        ask(daemon, seen, f"GET {path}", "GET", path, b"", BEARER)
    shell(daemon, seen, *add, "--secret-stdin", stdin=TEXT["misplaced"] + "!\n")
    shell(daemon, seen, *add[:2], "ftp://example.net/", "--secret-stdin", stdin=TEXT["misplaced"] + "\n")
    shell(daemon, seen, "webhook", "rotate", mine["id"], "--secret-stdin", stdin=TEXT["misplaced"][:30] + "\n")
    shell(daemon, seen, "webhook", "list", "--json")
    for verb in ("show", "test", "pause", "resume"):
        shell(daemon, seen, "webhook", verb, mine["id"])
    shell(daemon, seen, "webhook", "replay", mine["id"], "--dead", "--json")
    shell(daemon, seen, "status")
    shell(daemon, seen, "config", "show", "--effective")
    shell(daemon, seen, "backup", str(daemon.directory / "kept"))
    shell(daemon, seen, "webhook", "remove", mine["id"])
    assert daemon.stop() == 0
    for file in (*daemon.data.rglob("*"), daemon.directory / "kept"):
        if file.is_file():
            seen.add(file.name, file.read_bytes().decode("latin-1"))
    seen.add("the log", daemon.log.read_text())
    seen.add("what the program was sent", "".join(f"{told}" for told in (*program.told, *program.headers)))
    return seen


def by_http(daemon: Daemon, seen: Seen, program: Program, one: str) -> None:
    """Requests with a secret where none belongs, or none that can be one."""
    wrong = TEXT["misplaced"]
    for what, path, body in (
        ("no secret", PATH, {"url": program.url, "secret": wrong + "!"}),
        ("no text", PATH, {"url": program.url, "secret": [wrong]}),
        ("no field", PATH, {"url": program.url, "secrets": wrong}),
        ("no URL", PATH, {"url": "http://[", "secret": wrong}),
        ("no JSON", PATH, f'{{"secret": "{wrong}"'.encode()),
        ("no secret to rotate to", f"{one}/rotate", {"secret": wrong[:30]}),
        ("nothing to test", f"{one}/test", {"secret": wrong}),
    ):
        post(daemon, seen, f"HTTP, {what}", path, body, BEARER)
    content = json.dumps({"secret": wrong}).encode()
    ask(daemon, seen, "HTTP, a change", "PATCH", one, content, {"Content-Type": "application/json", **BEARER})


def settings(directory: Path) -> dict[str, Any]:
    secret = directory / "key"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    key = {"secret": {"file": str(secret)}, "account": "shop", "scopes": ["send", "read", "manage"]}
    return SETTINGS | {"keys": {"shop": key}}


def test_no_secret_of_a_webhook_is_ever_seen(tmp_path: Path, program: Program) -> None:
    source = broken_twin(
        tmp_path / "twin", "webhooks/sender.py", "allow_redirects=False", "allow_redirects=False", more=CRASH
    )
    with Daemon(tmp_path / "gw", settings(tmp_path), source=source) as daemon:
        seen = go_through(daemon, program)
    hits = seen.hits(CANARIES)
    assert not hits, "\n\n".join(hits)
    said = dict(seen.texts)
    assert "a fault of ours" in said["the log"], "nothing crashed, so no traceback was looked at"
    assert {name for name in said if name.startswith(("gateway.db", "kept"))}
    assert "answered 200" in next(text for name, text in said.items() if name.startswith("webhook test"))


def test_a_gateway_that_tells_it_with_an_error_is_found_out(tmp_path: Path, program: Program) -> None:
    source = broken_twin(
        tmp_path / "twin",
        "webhooks/sender.py",
        'f"it answered {response.status}"',
        'f"it answered {response.status}, signed by {secrets[0]}"',
        more=CRASH,
    )
    with Daemon(tmp_path / "gw", settings(tmp_path), source=source) as daemon:
        hits = go_through(daemon, program).hits(CANARIES)
    assert any(hit.startswith("the log shows the rotated in base64") for hit in hits)
    assert any("/attempts shows the rotated in base64" in hit for hit in hits)
