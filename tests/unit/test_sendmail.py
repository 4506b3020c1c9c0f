"""sendmail(8): what its options mean, what it makes of a message, what it tells its caller, and who serves it."""

import asyncio
import contextlib
import os
import pwd
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import doors, local
from gateway.app import Core
from gateway.cli import letter, sendmail
from gateway.cli.handover import Handover, Rejected, Wishes, stuffed
from gateway.cli.sendmail import Options, parse
from gateway.config import CaptureRoute, Config, KeyConfig, Limits, Secret
from gateway.errors import Reason, Refused
from gateway.policy.auth import Principal
from gateway.runtime import Supervisor
from gateway.smtp.door import Door
from gateway.store.shown import Filter
from tests.fakes.smtp_door import FakeDoor
from tests.fakes.smtp_listener import on_both_loops
from tests.unit.conftest import SHOP

_MAILBOX_LINE = re.compile(rb"\A>?From [^\n]*\n")

# Options


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-FCronDaemon -i -B8BITMIME -oem root", Options(["root"], dot_ends=False, name="CronDaemon")),
        ("-t -i", Options(from_header=True, dot_ends=False)),
        ("-ti -f a@b", Options(from_header=True, dot_ends=False, sender="a@b")),
        ("-oi -fa@b c@d e@f", Options(["c@d", "e@f"], dot_ends=False, sender="a@b")),
        ("-itfa@b", Options(from_header=True, dot_ends=False, sender="a@b")),
        ("-r a@b -- c@d", Options(["c@d"], sender="a@b")),
        ("-bm -v -n -m -U -G -x root", Options(["root"], verbose=True)),
        ("-bs", Options(mode="s")),
        ("-bi", Options(mode="i")),
        ("-I", Options(mode="i")),
        ("-oem -odb -oMr -O DeliveryMode=b -h 10 -d0.1 -Ac -X log -L x -p SMTP -e m root", Options(["root"])),
        ("-N never -R hdrs -V id root", Options(["root"], wishes=Wishes("NEVER", "HDRS", "id"))),
        ("-N Success,delay root", Options(["root"], wishes=Wishes("SUCCESS,DELAY"))),
        ("-C file root", Options(["root"], config=Path("file"))),
    ],
)
def test_options(line: str, expected: Options) -> None:
    assert parse(line.split()) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-f", "-f needs a value"),
        ("-Z root", "-Z is no option here"),
        ("--version", "-- is no option here"),
        ("-bd -q30m", "mail-gateway serve"),
        ("-bp", "mail-gateway queue list"),
        ("-bv root", "not verified"),
        ("-q", "mail-gateway queue retry"),
        ("-N always root", "never, or a list"),
        ("-N never,delay root", "never, or a list"),
        ("-R half root", "full or hdrs"),
        ("-V ü root", "100 printable"),
        ("root -t", "-t: a recipient does not begin with -"),
        ("-- -fevil@x.de", "a recipient does not begin with -"),
        ("-", "a recipient does not begin with -"),
    ],
)
def test_what_is_no_option_is_usage(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sendmail.main(["/usr/sbin/sendmail", *line.split()]) == 64
    assert said in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert sendmail.main(["sendmail", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: sendmail [-t]")


def test_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert sendmail.main(["/usr/bin/newaliases"]) == 0
    assert sendmail.main(["/usr/bin/mailq"]) == 64
    assert capsys.readouterr().err == "mailq: the queue is shown by `mail-gateway queue list`\n"


# Letters


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a@b", ["a@b"]),
        ("Name <a@b>, root (the, boss), e@f", ["a@b", "root", "e@f"]),
        ("friends: c@d, <e@f>;, g@h", ["c@d", "e@f", "g@h"]),
        ('"x, y"@z, "Last, First" <u@v>', ['"x, y"@z', "u@v"]),
        ("a@[IPv6:2001:db8::1], b@c", ["a@[IPv6:2001:db8::1]", "b@c"]),
        ("undisclosed-recipients:;", []),
        (" ,, ", []),
        ("a(nested (one) here)@b", ["a@b"]),
        ('a\\,b@c, "open <a@b>', ["a\\,b@c", "a@b"]),
        ("joe@x <real@y>", ["real@y"]),
        ("jürgen@bücher.example", ["jürgen@bücher.example"]),
    ],
)
def test_addresses(text: str, found: list[str]) -> None:
    assert letter.addresses(text) == found


def test_addresses_of_a_hostile_list_take_linear_time() -> None:
    for text in ('"' * 50_000, "(" * 50_000, "<" * 50_000, '"\\' * 50_000, "[" * 50_000, "a@b," * 20_000):
        letter.addresses(text)


@pytest.mark.parametrize(
    ("raw", "recipients", "has_from"),
    [
        (b"To: a@b,\n c@d\nCc: e@f\nBCC : g@h\nFrom: x@y\n\nTo: no@body\n", ("a@b", "c@d", "e@f", "g@h"), True),
        (b"To: a@b\r\nFrom:\r\n\r\nbody", ("a@b",), False),
        (b"To: a@b\nodd line\nFrom: x@y\n\n", ("a@b",), True),
        (b"To: a@b\nResent-To: c@d\nResent-Bcc: e@f\n\n", ("c@d", "e@f"), False),
        (b"hello: no\n \n\nTo: a@b\n", (), False),
        (b"no header here\nTo: a@b\n", (), False),
        (b"\nTo: a@b\n", (), False),
        (b"", (), False),
        (b"From root Mon Jan 1\nTo: a@b\nTo: a@b\n", ("a@b",), False),
    ],
)
def test_what_a_letter_says(raw: bytes, recipients: tuple[str, ...], has_from: bool) -> None:
    found = letter.read(raw, dot_ends=False)
    assert (found.recipients, found.has_from) == (recipients, has_from)


@pytest.mark.parametrize(
    ("raw", "content"),
    [
        (b"S: x\n\nhi\n.\nmore\n", b"S: x\n\nhi\n"),
        (b"S: x\n\nhi\r\n.\r\nmore\n", b"S: x\n\nhi\r\n"),
        (b"S: x\n\n.hi\n..\n.", b"S: x\n\n.hi\n..\n"),
        (b".\n", b""),
    ],
)
def test_a_lone_dot_ends_a_letter(raw: bytes, content: bytes) -> None:
    assert letter.read(raw, dot_ends=True).content == content
    assert letter.read(raw, dot_ends=False).content.endswith(raw)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("", b"From: root\n"),
        ("Cron Daemon", b"From: Cron Daemon <root>\n"),
        ('The "root", a@b', b'From: "The \\"root\\", a@b" <root>\n'),
        ("Jürgen", b"From: =?utf-8?q?J=C3=BCrgen?= <root>\n"),
        ("two\nBcc: lines", b"From: root\n"),
        ("latin-1 \udcfc", b"From: root\n"),
    ],
)
def test_a_missing_from_is_put_before(name: str, field: bytes) -> None:
    assert letter.read(b"To: a@b\n\nhi\n", dot_ends=True).with_from(name, "root") == field + b"To: a@b\n\nhi\n"
    assert letter.read(b"hi\n", dot_ends=True).with_from(name, "root") == field + b"\nhi\n"
    whole = letter.read(b"From: x@y\n\nhi\n", dot_ends=True)
    assert whole.with_from(name, "root") == whole.content


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"From r", b"To: a@b, (", b"From:", b".", b" x", b"\0", b""])).map(b"\n".join)
)
@example(b"\n\x00")
@example(b"From x\n.\n")
def test_whatever_is_handed_in(raw: bytes) -> None:
    found = letter.read(raw, dot_ends=False)
    without = _MAILBOX_LINE.sub(b"", raw)
    assert found.content in {without, b"\n" + without}
    assert all(found.recipients)
    assert found.with_from("x", "root").endswith(found.content)
    cut = letter.read(raw, dot_ends=True).content
    assert without.startswith((cut, cut.removeprefix(b"\n")))


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (b"", b".\r\n"),
        (b"a\nb\r\nc\rd", b"a\r\nb\r\nc\r\nd\r\n.\r\n"),
        (b".\n..\n\n.x", b"..\r\n...\r\n\r\n..x\r\n.\r\n"),
    ],
)
def test_content_as_data_takes_it(content: bytes, data: bytes) -> None:
    assert stuffed(content) == data


# What the caller is told


@dataclass
class Daemon:
    """A daemon on a socket that answers each command with the next of `replies`, then with what is usual."""

    path: Path
    replies: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def serve(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._talk(server.accept()[0])

    def _talk(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as lines, contextlib.suppress(OSError):
            sock.sendall(self.replies.get("", "220 hi").encode() + b"\r\n")
            in_content = False
            for raw in lines:
                line = raw.decode().rstrip("\r\n")
                self.said.append(line)
                if in_content and line != ".":
                    continue
                verb = "." if in_content else line.partition(" ")[0]
                usual = {"DATA": "354 go", ".": "250 2.0.0 queued as 1", "EHLO": "250-x\r\n250 SIZE"}.get(
                    verb, "250 ok"
                )
                reply = self.replies.get(line, self.replies.get(verb, usual))
                in_content = reply.startswith("3")
                if not reply:
                    return
                sock.sendall(reply.encode() + b"\r\n")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    path = tmp_path / ("d" * 100) / "submit.sock"  # longer than a unix socket's path may be
    path.parent.mkdir()
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(path.parent)
    server.bind(path.name)
    os.chdir(here)
    server.listen()
    running = Daemon(path)
    thread = threading.Thread(target=running.serve, args=(server,))
    thread.start()
    yield running
    server.shutdown(socket.SHUT_RDWR)
    thread.join()
    server.close()


def hand_over(daemon: Daemon, sender: str = "a@b", content: bytes = b"S: x\n\nhi\n") -> str:
    with Handover.open([daemon.path], configured=True) as handover:
        return handover.send(sender, ["c@d", "e@f"], content)


def test_a_message_is_handed_over(daemon: Daemon) -> None:
    assert hand_over(daemon, content=b"S: x\n\n.hi") == "250 2.0.0 queued as 1"
    assert daemon.said[:5] == ["EHLO localhost", "MAIL FROM:<a@b> SIZE=17", "RCPT TO:<c@d>", "RCPT TO:<e@f>", "DATA"]
    assert daemon.said[5:9] == ["S: x", "", "..hi", "."]
    hand_over(daemon, "jürgen@b", "S: ü".encode())
    assert "MAIL FROM:<jürgen@b> SIZE=10 BODY=8BITMIME SMTPUTF8" in daemon.said


@pytest.mark.parametrize(
    ("replies", "code", "said"),
    [
        ({"": "421 4.3.2 shutting down"}, 75, "greeting: 421"),
        ({"MAIL": "530 5.7.0 no"}, 77, "a@b: 530"),
        ({"MAIL": "550 5.7.1 not allowed"}, 77, "a@b: 550"),
        ({"MAIL": "452 4.3.1 full"}, 75, "452"),
        ({"MAIL": "552 5.3.4 too large"}, 65, "552"),
        ({"RCPT TO:<e@f>": "501 5.1.3 bad"}, 65, "e@f: 501 5.1.3 bad"),
        ({"RCPT TO:<e@f>": "553 5.1.3 no domain"}, 67, "e@f: 553 5.1.3 no domain"),
        ({"RCPT TO:<e@f>": "450 4.7.1 later"}, 75, "e@f: 450"),
        ({"RCPT TO:<e@f>": "452 4.5.3 too many"}, 65, "send to fewer"),
        ({"DATA": "451 4.3.0 oops"}, 75, "451"),
        ({".": "550 5.6.0 NUL"}, 65, "550 5.6.0 NUL"),
        ({".": "550-5.7.1 two\r\n550 5.7.1 lines"}, 77, "lines"),
        ({".": "451 4.3.0 later"}, 75, "451"),
        ({".": ""}, 75, "try again later"),
        ({"MAIL": ""}, 75, "try again later"),
        ({"MAIL": "2" * 70_000}, 75, "try again later"),
    ],
)
def test_what_the_daemon_says_is_an_exit_code(daemon: Daemon, replies: dict[str, str], code: int, said: str) -> None:
    daemon.replies = replies
    with pytest.raises(Rejected, match=said) as rejected:
        hand_over(daemon)
    assert rejected.value.code == code
    if "." not in replies:
        assert "." not in daemon.said  # nothing was sent to some of the recipients only


def test_a_daemon_that_is_away(tmp_path: Path) -> None:
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(left))  # and nobody listens
    for paths in ([tmp_path / "nowhere" / "s"], [left], [tmp_path / "absent.sock", left]):
        with pytest.raises(Rejected, match="nobody listens on") as rejected:
            Handover.open(paths, configured=True)
        assert rejected.value.code == 75


# The whole command


@pytest.fixture
def run(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Sequence[str], bytes], int]]:
    """Runs `sendmail` with a configuration that names the daemon's socket, and its standard input."""
    config = tmp_path / "gateway.yaml"
    config.write_text(
        f"keys: {{system: {{secret: {{env: NOT_HERE}}}}}}\nlocal: {{key: system, socket: {daemon.path}}}\n"
    )
    monkeypatch.setenv("MAIL_GATEWAY_CONFIG", str(config))
    before = os.dup(0)

    def call(arguments: Sequence[str], text: bytes) -> int:
        source = tmp_path / "input"
        source.write_bytes(text)
        descriptor = os.open(source, os.O_RDONLY)
        os.dup2(descriptor, 0)
        os.close(descriptor)
        return sendmail.main(["sendmail", *arguments])

    yield call
    os.dup2(before, 0)
    os.close(before)


Run = Callable[[Sequence[str], bytes], int]


def test_a_message_of_cron(run: Run, daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"], b"Subject: x\n\n.\nhi\n") == 0
    assert "MAIL FROM:<root> SIZE=50" in daemon.said
    assert "RCPT TO:<root>" in daemon.said
    assert daemon.said[daemon.said.index("DATA") + 1 :][:6] == [
        "From: CronDaemon <root>",
        "Subject: x",
        "",
        "..",
        "hi",
        ".",
    ]
    assert capsys.readouterr() == ("", "")


def test_what_is_to_be_told(run: Run, daemon: Daemon) -> None:
    assert run(["-N", "success,delay", "-Rhdrs", "-V", "a+b c", "-f", "a@b", "c@d", "e@f"], b"From: a@b\n\nhi\n") == 0
    assert daemon.said[1:4] == [
        "MAIL FROM:<a@b> SIZE=20 RET=HDRS ENVID=a+2Bb+20c",
        "RCPT TO:<c@d> NOTIFY=SUCCESS,DELAY",
        "RCPT TO:<e@f> NOTIFY=SUCCESS,DELAY",
    ]


def test_recipients_of_header_and_command_line(run: Run, daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-t", "-v", "-f", "<a@b>", "x@y, c@d"], b"To: c@d\nBcc: e@f\n\nhi\n") == 0
    assert [line for line in daemon.said if line.startswith("RCPT")] == [
        "RCPT TO:<x@y>",
        "RCPT TO:<c@d>",
        "RCPT TO:<e@f>",
    ]
    assert capsys.readouterr().out == "250 2.0.0 queued as 1\n"


@pytest.mark.parametrize(
    ("given", "sender"), [("a@b", "a@b"), ("<a@b>", "a@b"), ("Ann <a@b>", "a@b"), ("a@b (Ann)", "a@b"), ("ann", "ann")]
)
def test_a_sender_may_have_a_name(run: Run, daemon: Daemon, given: str, sender: str) -> None:
    assert run(["-f", given, "c@d"], b"Subject: x\n\n") == 0
    assert any(line.startswith(f"MAIL FROM:<{sender}> ") for line in daemon.said)


@pytest.mark.parametrize(
    ("user", "gecos", "field"),
    [
        ("ann", "Ann Smith,room 1", "From: Ann Smith <ann>"),
        ("www-data", "", "From: www-data"),
        ("ann", "& Smith", "From: Ann Smith <ann>"),
        ("CORP\\ann", "Ann", "From: Ann <uid-7>"),
        (None, "", "From: uid-7"),
    ],
)
def test_who_calls_is_the_sender(
    run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, user: str | None, gecos: str, field: str
) -> None:
    def entry(uid: int) -> pwd.struct_passwd:
        if user is None:
            raise KeyError(uid)
        return pwd.struct_passwd((user, "x", uid, uid, gecos, "/", "/bin/sh"))

    monkeypatch.setattr(os, "getuid", lambda: 7)
    monkeypatch.setattr(pwd, "getpwuid", entry)
    assert run(["c@d"], b"Subject: x\n\n") == 0
    assert field in daemon.said
    sender = field.rpartition(" ")[2].strip("<>")
    assert any(line.startswith(f"MAIL FROM:<{sender}> ") for line in daemon.said)


def test_the_null_sender(run: Run, daemon: Daemon) -> None:
    assert run(["-f", "<>", "c@d"], b"Subject: x\n\n") == 0
    assert run(["-f", "", "c@d"], b"Subject: x\n\n") == 0
    assert [line.split()[1] for line in daemon.said if line.startswith("MAIL")] == ["FROM:<>"] * 2


@pytest.mark.parametrize(
    ("arguments", "text", "code"),
    [
        ([], b"hi\n", 64),
        (["-f", "a@b, c@d", "e@f"], b"hi\n", 64),
        (["-t"], b"Subject: nobody\n\nhi\n", 65),
        (["-t"], b"To: \xff@b\n\nhi\n", 65),
        (["a@b>\r\nRCPT TO:<evil@x.de"], b"hi\n", 65),
        (["-f", "a@b>\r\nDATA", "c@d"], b"hi\n", 65),
    ],
)
def test_what_is_refused_before_the_daemon_is_asked(
    run: Run, daemon: Daemon, arguments: list[str], text: bytes, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, text) == code
    assert daemon.said == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()


def test_a_configuration_that_cannot_be_used(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("local: {socket: here}\n")
    assert run(["-C", str(broken), "c@d"], b"hi\n") == 78
    assert "local.socket: must be an absolute path" in capsys.readouterr().err


# Who serves it


class LocalDoor(FakeDoor):
    """Its principals are real: what the socket adds to them is looked at."""

    def network_principal(self, key_name: str) -> Principal:  # type: ignore[override]
        self.fail("network_principal")
        return replace(SHOP, name=key_name)


@contextlib.asynccontextmanager
async def serving(path: Path, door: Door, limits: Limits = Limits()) -> AsyncIterator[local.LocalServer]:  # noqa: B008 - a value
    errors: list[BaseException] = []
    supervisor = Supervisor(
        on_fatal=lambda _, error: errors.append(error), on_error=lambda _, error: errors.append(error)
    )
    config = Config(hostname="mail.example.com", limits=limits)
    server = local.LocalServer(config, "system", path, door, supervisor=supervisor)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)
        await supervisor.cancel_all()
    assert not errors


def submit(path: Path, sender: str = "a@example.com", content: bytes = b"Subject: x\n\n.hi\rthere\n") -> str:
    with Handover.open([path], configured=True) as handover:
        return handover.send(sender, ["b@example.org"], content)


@on_both_loops
async def test_mail_is_taken_from_users(tmp_path: Path) -> None:
    path, door = tmp_path / ("d" * 100) / "submit.sock", LocalDoor()
    path.parent.mkdir()
    async with serving(path, door):
        assert path.stat().st_mode & 0o777 == 0o666
        said = await asyncio.to_thread(submit, path)
        assert said.startswith("250 2.0.0 queued as ")
    (message,) = door.accepted
    assert message.content == b"Subject: x\r\n\r\n.hi\r\nthere\r\n"
    assert message.envelope.peer == f"uid-{os.getuid()}"
    assert message.envelope.helo == "localhost"
    principal: object = message.principal
    assert isinstance(principal, Principal)
    assert (principal.name, principal.default_domain) == ("system", "mail.example.com")
    assert not path.exists()


async def test_a_name_alone_is_completed_by_the_name_of_the_machine(tmp_path: Path) -> None:
    """To the end: the door asks for the key anew, and it knows nothing of this domain."""
    key = KeyConfig("system", Secret("system_0123456789abcdefghijkl"), "system")
    config = Config(data_dir=tmp_path, routes={"in": CaptureRoute("in")}, default_route="in", keys={"system": key})
    async with Core(config) as core:
        path, door = tmp_path / "submit.sock", doors.SmtpDoor(core.keys, core.intake, core.clock, core.mail_log)
        async with serving(path, door):
            await asyncio.to_thread(submit, path, "root", b"From: root\n\nhi\n")
        (row,) = await core.store.find(Filter())
        message = await core.store.message(row.uuid, None)
    assert message is not None
    assert (message.envelope_sender, message.header_from) == ("root@mail.example.com", "root@mail.example.com")


@on_both_loops
async def test_a_key_that_is_gone_is_no_permission(tmp_path: Path) -> None:
    path, door = tmp_path / "submit.sock", LocalDoor()
    door.failures["network_principal"] = Refused(Reason.AUTHENTICATION_REQUIRED, "gone")
    async with serving(path, door):
        with pytest.raises(Rejected) as rejected:
            await asyncio.to_thread(submit, path)
    assert rejected.value.code == 77
    assert not door.begun


async def test_a_user_has_the_connections_of_an_address(tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    async with serving(path, LocalDoor(), Limits(connections_per_ip=1)):
        reader, writer = await asyncio.open_unix_connection(path)
        assert (await reader.readline()).startswith(b"220 ")
        with pytest.raises(Rejected, match=r"421 4\.7\.0") as rejected:
            await asyncio.to_thread(submit, path)
        assert rejected.value.code == 75
        writer.close()


async def test_a_socket_that_cannot_be_removed_keeps_nobody_from_ending(tmp_path: Path) -> None:
    """As on a file system that has become read-only; what is open may end."""
    path, door = tmp_path / "submit.sock", LocalDoor()
    async with serving(path, door):
        path.unlink()
        path.mkdir()
    assert path.exists()


async def test_the_socket_of_a_daemon_that_is_gone_is_replaced(tmp_path: Path) -> None:
    path, door = tmp_path / "submit.sock", LocalDoor()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving(path, door):
        await asyncio.to_thread(submit, path)
        with pytest.raises(OSError, match="another daemon listens"):
            async with serving(path, door):
                pass
        await asyncio.to_thread(submit, path)
    assert len(door.accepted) == 2


async def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="something else in the place"):
        async with serving(path, LocalDoor()):
            pass
    assert path.read_text() == "precious"


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        async with serving(tmp_path / "nowhere" / "submit.sock", LocalDoor()):
            pass


async def test_a_socket_that_others_cannot_reach_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with serving(closed / "submit.sock", LocalDoor()):
        pass
    assert "set local.socket" in caplog.text


def test_where_the_socket_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "RUN_SOCKET", tmp_path / "run" / "submit.sock")
    config = Config(data_dir=tmp_path / "data")
    assert local.socket_path(config) == tmp_path / "data" / "submit.sock"
    (tmp_path / "run").mkdir()
    assert local.socket_path(config) == tmp_path / "run" / "submit.sock"
    assert local.socket_path(replace(config, local_socket=Path("/srv/submit.sock"))) == Path("/srv/submit.sock")


def test_smtp_by_standard_input(daemon: Daemon) -> None:
    inward, source = os.pipe()
    result, outward = os.pipe()
    os.write(source, b"EHLO x\r\nNOOP\r\n")
    os.close(source)
    with Handover.open([daemon.path], configured=True) as handover:
        handover.relay(inward, outward)
    assert os.read(result, 4096) == b"220 hi\r\n250-x\r\n250 SIZE\r\n250 ok\r\n"
    for descriptor in (inward, result, outward):
        os.close(descriptor)
