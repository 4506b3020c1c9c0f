"""The command line as a user meets it: what it prints, what it exits with, and what it leaves behind."""

import asyncio
import errno
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import cli, configfile
from gateway.app import Gateway
from gateway.cli import connect
from tests.peers.process import python_for_all

ROOT = Path(__file__).parents[2]
SECRET = "cfg_0123456789abcdefghijklmnop"
OWNER = 12345
PATHS = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if "site-packages" in p)])}


class Shell:
    """Runs commands with one configuration and keeps what they printed."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.file = directory / "gateway.yaml"
        self.configure("")
        self._capsys = capsys
        self.out = self.err = ""

    def configure(self, more: str) -> None:
        self.file.write_text(
            f"hostname: mail.example.org\ndata_dir: {self.data}\ndefault_route: inbox\n"
            "routes: {inbox: {type: capture}, out: {type: relay, host: localhost, port: 1, tls: none}}\n"
            "http: {listeners: [{listen: '127.0.0.1:0'}], admin: off}\nsmtp: {listeners: [{listen: '127.0.0.1:0'}]}\n"
            + more
        )
        self.file.chmod(0o600)

    def plain(self, *argv: str) -> int:
        """Run without -c."""
        try:
            code = cli.main(argv)
        except SystemExit as exit_:
            code = int(str(exit_.code))
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.err
        return code

    def run(self, *argv: str) -> int:
        return self.plain("-c", str(self.file), *argv)

    def ok(self, *argv: str) -> str:
        assert self.run(*argv) == 0, self.err
        return self.out

    def json(self, *argv: str) -> Any:
        return json.loads(self.ok(*argv, "--json"))

    def fails(self, code: int, *argv: str) -> str:
        """What is said on standard error where a command ends with that code."""
        assert self.run(*argv) == code, self.err
        assert self.out == ""
        assert self.err
        return self.err

    def apart(self, *argv: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
        """In a process of its own."""
        command = [python, "-m", "gateway", "-c", str(self.file), *argv]
        return subprocess.run(
            command, env=PATHS, capture_output=True, encoding="utf-8", check=False, cwd="/", timeout=30
        )

    def send(self, *more: str) -> str:
        """Queue a message; its id."""
        text = self.directory / "text"
        text.write_text("It works.\n")
        argv = ("send", "--key", "shop", "--from", "me@example.com", "--to", "you@example.net", "--text", str(text))
        return str(self.json(*argv, *more)["message_id"])


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Puts bytes on standard input."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return put


@contextmanager
def running_daemon(file: Path) -> Iterator[None]:
    """The daemon, in a thread of this process."""
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with Gateway(configfile.load(file), log_stream=io.StringIO()):
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(params=["alone", "daemon"])
def office(request: pytest.FixtureRequest, shell: Shell) -> Iterator[Shell]:
    """Commands say the same whether they ask the daemon or open the store themselves."""
    if request.param == "alone":
        yield shell
    else:
        with running_daemon(shell.file):
            yield shell


# Keys


def test_a_key_is_shown_once(office: Shell) -> None:
    assert "There is no key yet: mail-gateway key create" in office.ok("key", "list")
    made = office.ok("key", "create", "shop", "--from", "*@example.com", "--route", "out", "--expires", "90d")
    secret = next(line for line in made.splitlines() if line.startswith("key: mgw_")).removeprefix("key: ")
    listed, shown = office.ok("key", "list"), office.ok("key", "show", "shop")
    assert secret not in listed + shown
    assert secret[:8] in listed
    heading, row = listed.splitlines()
    assert row.index("*@example.com") == heading.index("FROM")
    assert "from:         *@example.com\n" in shown
    assert office.ok("key", "revoke", "shop") == "The key shop is revoked.\n"
    assert "revoked" in office.ok("key", "list")
    assert "no active key shop" in office.fails(1, "key", "revoke", "shop")
    assert "no key nobody" in office.fails(1, "key", "show", "nobody")


def test_a_key_of_ones_own_is_never_printed(office: Shell, typed: Callable[[bytes], None]) -> None:
    typed(SECRET.encode() + b"\n")
    assert SECRET not in office.ok("key", "create", "shop", "--secret-stdin")
    typed(SECRET.encode()[::-1])
    assert "secret" not in office.json("key", "create", "other", "--secret-stdin")
    assert office.json("key", "show", "shop")["hint"] == SECRET[:8] + "…"


@pytest.mark.parametrize(
    ("given", "words"),
    [(b"", "standard input holds no key"), (b"\n", "no key"), (b"\xff\xfe\n", "not text"), (b"short\n", "at least 22")],
)
def test_a_key_that_cannot_be_one(shell: Shell, typed: Callable[[bytes], None], given: bytes, words: str) -> None:
    typed(given)
    assert words in shell.fails(1, "key", "create", "shop", "--secret-stdin")
    assert shell.json("key", "list") == []


def test_the_beginning_of_a_key(shell: Shell) -> None:
    assert shell.json("key", "create", "shop", "--prefix", "acme_live_")["secret"].startswith("acme_live_")


@pytest.mark.parametrize(
    ("expires", "words"),
    [
        ("soon", "'soon' is not a duration like 30s, 5m, 4h or 5d"),
        ("5", "not a duration"),
        ("0s", "more than nothing"),
        ("999999999999d", "at most 100 years"),
    ],
)
def test_when_a_key_ends_must_be_a_time(shell: Shell, expires: str, words: str) -> None:
    assert words in shell.fails(2, "key", "create", "shop", "--expires", expires)
    assert shell.json("key", "list") == []


def test_the_limits_of_a_key(office: Shell) -> None:
    made = office.ok("key", "create", "shop", "--limit", "recipients=100/min,burst=200", "--limit", "requests=10/sec")
    assert "limits:       recipients=100/min,burst=200 requests=10/s\n" in made
    assert made.replace("\n\n", "\n").startswith(office.ok("key", "show", "shop"))
    assert office.json("key", "show", "shop")["limits"] == ["recipients=100/min,burst=200", "requests=10/s"]
    office.ok("key", "create", "plain")
    heading, plain, shop = office.ok("key", "list").splitlines()
    assert shop.index("recipients=100/min,burst=200 requests=10/s") == heading.index("LIMITS")
    assert plain.index("none") == heading.index("LIMITS")
    assert office.json("key", "show", "plain")["limits"] == []


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("100/min", "'100/min' is not a limit like recipients=100/min or recipients=100/min,burst=200"),
        ("recipients=100", "'100' is not a rate like 10/s"),
        ("recipients=100/min,burst=0", "a burst is from 1"),
    ],
)
def test_a_limit_must_be_one(shell: Shell, limit: str, words: str) -> None:
    assert words in shell.fails(2, "key", "create", "shop", "--limit", limit)
    assert shell.json("key", "list") == []


def test_two_limits_of_a_kind(shell: Shell) -> None:
    argv = ("key", "create", "shop", "--limit", "messages=1/s", "--limit", "messages=2/s")
    assert "a limit of messages in the same period already: 1/s" in shell.fails(1, *argv)
    assert shell.json("key", "list") == []


def test_what_becomes_of_the_mail_of_a_key(office: Shell) -> None:
    made = office.ok("key", "create", "shop", "--duplicates", "at_most_once", "--dsn", "delay", "--dsn", "failure")
    assert "duplicates:   at_most_once\ndsn:          failure delay\n" in made
    assert made.replace("\n\n", "\n").startswith(office.ok("key", "show", "shop"))
    assert office.json("key", "show", "shop")["dsn"] == ["failure", "delay"]
    office.ok("key", "create", "plain")
    office.ok("key", "create", "quiet", "--dsn", "never")
    heading, plain, quiet, shop = office.ok("key", "list").splitlines()
    told = heading.index("DSN")
    assert [row[told:].split("  ")[0] for row in (plain, quiet, shop)] == ["(default)", "never", "failure delay"]
    assert shop.index("at_most_once") == plain.index("at_least_once") == heading.index("DUPLICATES")
    assert [key["dsn"] for key in office.json("key", "list")] == [None, ["never"], ["failure", "delay"]]


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (("--duplicates", "never"), 2, "invalid choice: 'never'"),
        (("--dsn", "always"), 2, "invalid choice: 'always'"),
        (("--dsn", "never", "--dsn", "delay"), 1, "never stands alone"),
    ],
)
def test_what_becomes_of_mail_is_one_of_few(shell: Shell, argv: tuple[str, ...], status: int, words: str) -> None:
    assert words in shell.fails(status, "key", "create", "shop", *argv)
    assert shell.json("key", "list") == []


def test_the_help_shows_how_a_limit_is_written(shell: Shell) -> None:
    assert "recipients=100/min,burst=200" in " ".join(shell.ok("key", "create", "--help").split())


def printed_key(made: str) -> str:
    return made.rpartition("\nkey: ")[2].splitlines()[0]


def test_a_key_for_a_device(office: Shell) -> None:
    argv = ("key", "create", "scanner", "--short", "--ip", "192.168.1.0/24", "--ip", "2001:db8::9")
    made = office.ok(*argv)
    assert len(printed_key(made)) == 20
    assert "ip:           192.168.1.0/24, 2001:db8::9/128\n" in made
    assert made.replace("\n\n", "\n").startswith(office.ok("key", "show", "scanner"))
    heading, row = office.ok("key", "list").splitlines()
    assert row.index("192.168.1.0/24") == heading.index("IP ")
    assert "say which (ip)" in office.fails(1, "key", "create", "other", "--short")
    assert "say which (ip)" in office.fails(1, "key", "create", "other", "--short", "--ip", "0.0.0.0/0")


def test_a_key_is_rotated(office: Shell, typed: Callable[[bytes], None]) -> None:
    first = printed_key(office.ok("key", "create", "shop"))
    second = printed_key(office.ok("key", "rotate", "shop"))
    assert first != second
    listed, shown = office.ok("key", "list"), office.ok("key", "show", "shop")
    assert "active (rotating)" in listed
    assert "old key ends: 2" in shown
    assert second[:8] in shown
    assert not {first, second} & set((listed + shown).split())
    typed(SECRET.encode())
    assert SECRET not in office.ok("key", "rotate", "shop", "--overlap", "0s", "--secret-stdin")
    assert "old key ends: -\n" in office.ok("key", "show", "shop")
    assert office.json("key", "show", "shop")["hint"] == SECRET[:8] + "…"
    typed(SECRET.encode())
    assert "with this secret, already" in office.fails(1, "key", "rotate", "shop", "--secret-stdin")
    assert "no active key nobody" in office.fails(1, "key", "rotate", "nobody")


# Domains


def test_domains(office: Shell) -> None:
    assert "no domain yet" in office.ok("domain", "list")
    added = office.ok("domain", "add", "example.com", "--selector", "s1")
    assert "s1._domainkey.example.com. IN TXT (" in added
    assert "value: v=DKIM1; k=rsa; p=" in added
    assert office.json("domain", "list")[0]["dns_name"] == "s1._domainkey.example.com"
    assert "s1._domainkey.example.com" in office.ok("domain", "list")
    assert "There is a domain example.com already" in office.fails(1, "domain", "add", "example.com")
    second = office.ok("domain", "add", "example.com", "--ed25519")
    assert "Publish both records" in second
    assert "s1._domainkey.example.com. IN TXT (" in second
    assert "s1-ed25519._domainkey.example.com. IN TXT (" in second
    assert "value: v=DKIM1; k=ed25519; p=" in second
    assert "s1, s1-ed25519 " in office.ok("domain", "list")
    assert office.json("domain", "list")[0]["ed25519"]["selector"] == "s1-ed25519"
    assert "an Ed25519 key already" in office.fails(1, "domain", "add", "example.com", "--ed25519")
    both = office.ok("domain", "add", "example.net", "--ed25519")
    assert both.count("IN TXT") == both.count("value: v=DKIM1") == 2
    assert "is removed" in office.ok("domain", "remove", "example.com")
    assert "no domain example.com" in office.fails(1, "domain", "remove", "example.com")


# Sending, and the queue


def test_a_message_waits_for_the_daemon(shell: Shell) -> None:
    shell.ok("key", "create", "shop", "--route", "out")
    assert shell.ok("queue", "summary") == "The queue is empty.\n"
    assert shell.ok("queue", "list") == "Nothing queued matches.\n"
    id_ = shell.send("--cc", "c@example.net", "--bcc", "d@example.net", "--subject", "Grüße")
    assert shell.ok("queue", "summary").startswith("3 ready, 0 waiting, 0 in hand, 0 held\n")
    assert [row["to"] for row in shell.json("queue", "list", "--id", id_)] == [
        "you@example.net",
        "c@example.net",
        "d@example.net",
    ]
    assert "There may be more" in shell.ok("queue", "list", "--limit", "2")
    shown = shell.ok("queue", "show", id_)
    assert "subject:         Grüße\n" in shown
    assert shown.count("accepted") == 3
    assert "0 waiting recipients would be tried now" in shell.ok("queue", "retry", "--all", "--dry-run")
    assert "due now" in shell.ok("queue", "retry", "--id", id_)
    assert "say which" in shell.fails(1, "queue", "retry")


def test_the_queue_is_changed_where_no_daemon_runs(shell: Shell) -> None:
    shell.ok("key", "create", "shop", "--route", "out")
    id_ = shell.send()
    assert shell.ok("queue", "hold", "--to", "you@example.net", "--reason", "wait") == "1 recipient held.\n"
    assert "held until released" in shell.ok("queue", "list")
    assert "1 recipient would be released." in shell.ok("queue", "release", "--all", "--dry-run")
    assert shell.json("queue", "release", "--all") == {"released": 1, "in_hand": 0, "suspensions": 0}
    assert "resume 1" in shell.ok("queue", "suspend", "--key", "shop", "--reason", "a storm")
    assert "a storm" in shell.ok("queue", "summary")
    explained = shell.ok("queue", "explain", id_)
    assert "No daemon runs" in explained
    assert "An operator suspended it: number 1" in explained
    assert "\n\nWay 1: route out (relay)\n" in explained
    assert "localhost [127.0.0.1]:1" in explained
    assert "signature:       none: example.com is no sending domain" in explained
    assert "0 recipients due now.\nBeware: something is suspended" in shell.ok("queue", "retry", "--all")
    assert "1 suspension would end." in shell.ok("queue", "resume", "--all", "--dry-run")
    assert "1 suspension ended." in shell.ok("queue", "resume", "1")
    assert "1 recipient redirected." in shell.ok("queue", "redirect", "--id", id_, "--new-route", "inbox")
    assert "it is captured" in shell.ok("queue", "explain", id_)
    assert "1 recipient cancelled." in shell.ok("queue", "cancel", "--id", id_)
    assert "invalid choice" in shell.fails(2, "queue", "hold", "--state", "delivered")
    assert "not a duration" in shell.fails(2, "queue", "suspend", "--all", "--for", "ever")
    assert "at least 1" in shell.fails(2, "queue", "resume", "0")


def test_a_redirection_says_how_its_mail_is_tried_at_once(office: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect.Desk, "act", lambda *_: {"redirected": 3, "in_hand": 0, "waiting": 2})
    retry = "mail-gateway queue retry --key 'my shop' --route out"
    said = office.ok("queue", "redirect", "--route", "inbox", "--key", "my shop", "--new-route", "out")
    assert said == f"3 recipients redirected.\nThose that wait for their next try still do (2): {retry}\n"
    said = office.ok("queue", "redirect", "--domain", "example.com", "--new-address", "me@example.net")
    assert said.endswith(": mail-gateway queue retry --to me@example.net\n")
    monkeypatch.setattr(connect.Desk, "act", lambda *_: {"redirected": 3, "in_hand": 0, "waiting": 0})
    assert office.ok("queue", "redirect", "--all", "--new-route", "out") == "3 recipients redirected.\n"


def test_attachments(shell: Shell) -> None:
    shell.ok("key", "create", "shop", "--route", "out")
    pdf = shell.directory / "bill.pdf"
    pdf.write_bytes(bytes(100_000))
    packed = shell.directory / "a.txt.gz"
    packed.write_bytes(b"\x1f\x8b")
    html = shell.directory / "page.html"
    html.write_text("<p>ü</p>", encoding="utf-8")
    id_ = shell.send("--attach", str(pdf), "--attach", str(packed), "--html", str(html))
    assert shell.json("queue", "show", id_)["size"] > 133_000


def test_text_from_standard_input(shell: Shell, typed: Callable[[bytes], None]) -> None:
    shell.ok("key", "create", "shop")
    argv = ("send", "--key", "shop", "--from", "a@example.com", "--to", "b@example.net", "--text", "-")
    typed("Grüße\n".encode())
    assert shell.ok(*argv).startswith("captured as eml_")
    typed(b"\xff")
    assert "- is not UTF-8 text (byte 0)" in shell.fails(1, *argv)


def test_what_cannot_be_sent_is_explained(office: Shell) -> None:
    office.ok("key", "create", "shop", "--from", "*@example.com")
    argv = ("send", "--key", "shop", "--from", "a@example.com", "--text", str(office.file))
    assert "--to" in office.fails(2, *argv)
    said = office.fails(1, *argv, "--to", "x y", "--to", "a@@b")
    assert len(said.splitlines()) == 2
    assert "to[0]: " in said
    assert "  to[1]: " in said
    assert "nowhere cannot be read: No such file" in office.fails(
        1, *argv, "--to", "b@example.net", "--attach", "nowhere"
    )
    assert "There is no key nobody" in office.fails(1, *argv, "--to", "b@example.net", "--key", "nobody")
    assert "may not send as" in office.fails(1, *argv, "--to", "b@example.net", "--from", "a@example.org")


def test_too_much_to_attach(shell: Shell) -> None:
    shell.configure("max_message: 10KB\n")
    big = shell.directory / "big"
    big.write_bytes(bytes(10_001))
    shell.ok("key", "create", "shop", "--default-from", "a@example.com")
    argv = ("send", "--key", "shop", "--to", "b@example.net", "--attach", str(big))
    assert "at most 10000 are taken" in shell.fails(1, *argv)
    os.truncate(big, 100_000_000)
    assert "have 100000000 bytes, at most 10000 are taken (max_message)" in shell.fails(1, *argv)


def test_too_much_text_is_not_handed_to_the_daemon(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(*_: object) -> None:
        pytest.fail("it is handed in")

    monkeypatch.setattr(connect.Desk, "act", act)
    big = shell.directory / "big"
    big.write_bytes(b"x" * 60_000_000)
    for option in ("--text", "--html", "--attach"):
        said = shell.fails(1, "send", "--key", "shop", "--to", "b@example.net", option, str(big))
        assert "have 60000000 bytes, at most" in said


def test_a_message_of_nothing(office: Shell) -> None:
    said = office.fails(1, "send", "--key", "shop", "--to", "b@example.net")
    assert "there is nothing to send: give --text FILE (- is standard input), --html or --attach" in said


def test_the_daemon_has_the_secrets(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.configure("keys: {cfg: {secret: {env: OF_THE_UNIT}}}\n")
    assert "OF_THE_UNIT is not set" in shell.fails(78, "key", "list")
    monkeypatch.setenv("OF_THE_UNIT", SECRET)
    with running_daemon(shell.file):
        monkeypatch.delenv("OF_THE_UNIT")
        assert [key["name"] for key in shell.json("key", "list")] == ["cfg"]


def test_waiting_without_a_daemon_ends(shell: Shell) -> None:
    shell.ok("key", "create", "shop", "--route", "out")
    argv = ("send", "--key", "shop", "--from", "a@example.com", "--to", "b@example.net", "--text", str(shell.file))
    assert shell.run(*argv, "--wait", "50ms") == 1
    assert "b@example.net: queued" in shell.out
    assert "no outcome yet after 0.05 s" in shell.err
    assert "No daemon is running" in shell.err


def test_waiting_for_the_daemon(shell: Shell) -> None:
    with running_daemon(shell.file):
        shell.ok("key", "create", "shop")
        argv = ("send", "--key", "shop", "--from", "a@example.com", "--to", "b@example.net", "--text", str(shell.file))
        assert "b@example.net: captured" in shell.ok(*argv, "--wait", "10s")


@pytest.mark.parametrize("id_", ["eml_" + "0" * 24, "nonsense", "01a1fcf0-8ab8-7742-b746-782eef1bd3df"])
def test_an_unknown_message(shell: Shell, id_: str) -> None:
    assert f"There is no message {id_}" in shell.fails(1, "queue", "show", id_)


def test_control_characters_never_reach_the_terminal(office: Shell) -> None:
    office.ok("key", "create", "shop")
    id_ = office.send("--subject", "a\u009b31m\u202e ü")
    for argv in (("queue", "show", id_), ("queue", "show", id_, "--json")):
        printed = office.ok(*argv)
        assert all(c.isprintable() or c == "\n" for c in printed)
        assert "9b31m" in printed
    assert json.loads(printed)["subject"] == "a\u009b31m\u202e ü"
    assert "\x1b" not in office.fails(1, "queue", "show", "\x1b[31m")


@pytest.mark.parametrize(
    "argv",
    [
        ("key", "list"),
        ("domain", "list"),
        ("queue", "summary"),
        ("queue", "list"),
        ("queue", "retry", "--all"),
        ("queue", "retry", "--all", "--dry-run"),
        ("check",),
    ],
    ids=" ".join,
)
def test_json_is_json(office: Shell, argv: tuple[str, ...]) -> None:
    assert isinstance(office.json(*argv), (list, dict))


# The configuration


def test_every_problem_with_its_line(shell: Shell) -> None:
    assert shell.ok("check") == f"{shell.file}: no problem found\n"
    shell.file.write_text("hostnam: x\nlog: {level: chatty}\n")
    said = shell.fails(78, "check")
    assert f"{shell.file}: line 1: hostnam: unknown key; did you mean hostname?\n" in said
    assert "line 2: log.level: " in said
    assert said.endswith("2 problems\n")
    assert shell.run("check", "--json") == 78
    assert [problem["line"] for problem in json.loads(shell.out)["problems"]] == [1, 2]
    said = shell.fails(78, "key", "list")
    assert said.startswith(f"mail-gateway: {shell.file}: the configuration cannot be used\n  line 1: hostnam: ")


@pytest.mark.slow
def test_secrets_of_the_configuration_are_masked(shell: Shell) -> None:
    shell.configure(f"keys: {{cfg: {{secret: {SECRET}}}}}\n")
    assert "default_route: inbox" in shell.ok("config", "show", "--effective")
    assert SECRET not in shell.out
    assert shell.run("check") == 0
    assert "warning: line 7: keys.cfg.secret: a secret in the file itself" in shell.err
    assert SECRET not in shell.err
    assert SECRET not in shell.ok("key", "list") + shell.ok("key", "show", "cfg", "--json")


def test_what_systemd_hands_to_the_unit_is_not_needed_to_look(shell: Shell) -> None:
    """Nobody has it but the daemon, which may be dead."""
    shell.configure("keys: {shop: {secret: {credential: shop}}}\n")
    assert "secret: '***'" in shell.ok("config", "show", "--effective")
    assert "shop" in shell.ok("key", "list")
    shell.ok("queue", "summary")
    assert "keys.shop.secret.credential: cannot be read here" in shell.fails(78, "serve")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_file_is_named_before_or_after_the_verb(shell: Shell, place: int) -> None:
    argv = ["key", "list"]
    argv[place:place] = ["-c", str(shell.file)]
    assert shell.plain(*argv) == 0
    argv[place + 1] = "/nowhere.yaml"
    assert shell.plain(*argv) == 78


def test_the_file_is_named_by_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_GATEWAY_CONFIG", str(shell.file))
    assert shell.plain("key", "list") == 0
    monkeypatch.setenv("MAIL_GATEWAY_CONFIG", "/nowhere.yaml")
    assert shell.plain("key", "list") == 78
    assert "/nowhere.yaml cannot be read: No such file or directory" in shell.err
    assert "-c FILE or $MAIL_GATEWAY_CONFIG" in shell.err
    assert shell.plain("check") == 78
    assert "-c FILE or $MAIL_GATEWAY_CONFIG" in shell.err
    assert shell.plain("-c", str(shell.file), "key", "list") == 0


# What goes wrong around it


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "COMMAND"),
        (("frobnicate",), "invalid choice"),
        (("key",), "create|list|show|rotate|mode|release|revoke"),
        (("key", "create", "k", "--ip", "192.168.1.7/24"), "has host bits set"),
        (("key", "create", "k", "--short", "--prefix", "re_"), "not allowed with"),
        (("key", "rotate", "k", "--overlap", "-1s"), "expected one argument"),
        (("key", "rotate", "k", "--overlap", "soon"), "not a duration"),
        (("key", "create"), "name"),
        (("queue", "list", "--limit", "0"), "at least 1"),
        (("queue", "list", "--limit", "many"), "at least 1"),
        (("queue", "list", "--older", "yesterday"), "not a duration"),
        (("queue", "list", "--state", "lost"), "invalid choice"),
        (("queue", "show", "\udcff"), "is not UTF-8"),
        (("send", "--key", "k", "--to", "b@example.net", "--wait", "long"), "not a duration"),
        (("dev", "--http", "8025"), "not an address like 127.0.0.1:2525"),
    ],
    ids=lambda value: " ".join(value).encode("ascii", "replace").decode() if isinstance(value, tuple) else "",
)
def test_usage(shell: Shell, argv: tuple[str, ...], words: str) -> None:
    assert words in shell.fails(2, *argv)


def test_dev_takes_no_configuration(shell: Shell) -> None:
    assert "dev takes no configuration" in shell.fails(1, "dev")


def test_an_empty_key_of_dev_is_no_key(shell: Shell) -> None:
    var = shell.directory / "var"
    var.mkdir()
    (var / "dev.key").touch()
    assert shell.plain("dev", "--data-dir", str(var)) == 1
    assert "holds no key: remove it" in shell.err


def test_a_data_directory_that_cannot_be_made(shell: Shell) -> None:
    shell.data = shell.directory / "file" / "data"
    (shell.directory / "file").touch()
    shell.configure("")
    assert f"the data directory {shell.data} " in shell.fails(75, "key", "list")


def test_a_data_directory_that_is_a_file(shell: Shell) -> None:
    shell.data.touch()
    assert "is not a directory" in shell.fails(75, "key", "list")


def test_a_daemon_that_does_not_answer(shell: Shell) -> None:
    with running_daemon(shell.file):
        (shell.data / "control.sock").unlink()
        assert "another mail-gateway serves" in shell.fails(75, "key", "list")
        assert "try again" in shell.err


def test_another_master_key(shell: Shell) -> None:
    shell.ok("domain", "add", "example.com")
    (shell.data / "master.key").write_bytes(bytes(32))
    assert "master.key is not the key it was wrapped with" in shell.fails(75, "key", "list")


@pytest.mark.slow
def test_a_pipe_that_is_closed_early(shell: Shell) -> None:
    command = [sys.executable, "-m", "gateway", "-c", str(shell.file), "config", "show", "--effective"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(command, env=PATHS, stdout=closed, stderr=subprocess.PIPE, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.slow
@pytest.mark.parametrize("argv", [("config", "show", "--effective"), ("key", "list")])
def test_a_standard_output_that_is_full(shell: Shell, argv: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "gateway", "-c", str(shell.file), *argv]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, env=PATHS, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    said = b"mail-gateway: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.slow
def test_a_standard_output_that_is_closed(shell: Shell) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "gateway", "-c", str(shell.file), "key", "list"]
    done = subprocess.run(command, env=PATHS, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_that_is_not_of_standard_output_is_not_called_one(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(connect.Desk, "act", act)
    with pytest.raises(OSError, match="No space"):
        shell.run("key", "list")


@pytest.mark.slow
def test_a_terminal_of_few_letters(shell: Shell) -> None:
    shell.ok("key", "create", "grüße")
    plain = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "gateway", "-c", str(shell.file), "key", "list"],
        env=PATHS | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (plain.returncode, plain.stderr) == (0, b"")
    assert b"gr\\xfc\\xdfe" in plain.stdout


def _open_to_all(directory: Path) -> None:
    for one in (directory, *directory.parents):
        if one.stat().st_mode & 0o011 != 0o011:  # pytest's own, as deep as it made them
            one.chmod(0o711)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_checks_what_the_daemon_can_read(shell: Shell) -> None:
    python = python_for_all()
    _open_to_all(shell.directory)
    secret = shell.directory / "shop.key"
    secret.write_text("0123456789abcdefghijklmnop\n")
    secret.chmod(0o600)
    shell.configure(f"keys: {{shop: {{secret: {{file: {secret}}}}}}}\n")
    shell.file.chmod(0o644)
    alone = shell.apart("check", python=python)
    assert (alone.returncode, "data_dir: is not there yet, so this was judged as root" in alone.stderr) == (0, True)
    shell.data.mkdir()
    os.chown(shell.data, OWNER, OWNER)
    found = shell.apart("check", python=python)
    assert (found.returncode, f"{secret} cannot be read: Permission denied" in found.stderr) == (78, True)
    os.chown(secret, OWNER, OWNER)
    assert shell.apart("check", python=python).stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_leaves_no_file_of_its_own(shell: Shell) -> None:
    python = python_for_all()
    _open_to_all(shell.directory)
    shell.data.mkdir()
    os.chown(shell.data, OWNER, OWNER)
    made = shell.apart("key", "create", "shop", python=python)
    assert made.returncode == 0, made.stderr
    sent = shell.apart(
        *("send", "--key", "shop", "--from", "a@example.com", "--to", "b@example.net", "--text", str(shell.file)),
        *("--wait", "50ms"),
        python=python,
    )
    assert "b@example.net: queued" in sent.stdout, sent.stderr  # the configuration is root's: it is read once
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in shell.data.iterdir()}
    assert {"gateway.db", "master.key", "lock"} <= owners.keys()
    assert set(owners.values()) == {(OWNER, OWNER)}
    assert shell.file.stat().st_uid == 0
