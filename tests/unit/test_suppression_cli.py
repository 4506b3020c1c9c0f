"""`mail-gateway suppression` where no daemon runs, and what it makes of other people's files."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway import cli
from gateway.cli import suppressionfile

HEAD = "address,reason,created_at,expires_at,tag,note\n"


class Shell:
    """Runs the command and keeps what it printed."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.config = directory / "gateway.yaml"
        self.config.write_text(f"hostname: mail.example.com\ndata_dir: {directory / 'data'}\n")
        self.capsys = capsys
        self.code = 0

    def __call__(self, *arguments: str) -> str:
        self.code = cli.main(["-c", str(self.config), "suppression", *arguments])
        out, self.errors = self.capsys.readouterr()
        return out

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))

    def file(self, content: str | bytes) -> str:
        path = self.directory / "list.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def rows(content: bytes) -> tuple[list[dict[str, Any]], suppressionfile._Outcome]:
    outcome = suppressionfile._Outcome()
    return list(suppressionfile._rows(io.BytesIO(content), outcome)), outcome


def test_adding_listing_and_removing(shell: Shell) -> None:
    said = shell("add", "Ann@Example.com", "--account", "acme", "--expires", "90d", "--tag", "news")
    assert said.startswith("ann@example.com is suppressed for acme, until 2")
    assert shell("add", "--domain", "example.net") == (
        "example.net is suppressed for everybody, until it is removed (operator).\n"
    )
    listed = shell.json("list")["suppressions"]
    assert [(one["address"], one["account"], one["tag"]) for one in listed] == [
        ("example.net", None, None),
        ("ann@example.com", "acme", "news"),
    ]
    assert shell.json("list", "--account", "acme")["suppressions"] == listed[1:]
    assert "(everybody)" in shell("list", "--address", "@example.net")
    shell("remove", "ann@example.com")
    assert shell.code == 1
    assert shell.errors == (
        "mail-gateway: There is no suppression for everybody of ann@example.com. For an account (--account) there may "
        "be: mail-gateway suppression list --address ann@example.com\n"
    )
    assert "is sent to again: 1 entry removed" in shell("remove", "ann@example.com", "--account", "acme")
    shell("remove", "ann@example.com", "--account", "acme")
    assert shell.errors == "mail-gateway: There is no suppression for acme of ann@example.com.\n"
    assert shell("remove", "--domain", "example.net").startswith("example.net is sent to again")
    assert shell("list") == "Nobody is suppressed.\n"


def test_export_and_import_are_the_same_list(shell: Shell) -> None:
    content = (
        HEAD
        + "ann@example.com,bounce,2026-01-02T03:04:05.678Z,2090-01-01T00:00:00.000Z,,\n"
        + 'bob@example.com,complaint,2026-01-02T03:04:05.678Z,,"a, b","said ""no"""\n'
        + "example.net,operator,2026-01-02T03:04:05.678Z,,d\u00e9j\u00e0\u00a0vu,\U0001f469\u200d\U0001f680 \ufffd\n"
        + "hash:abcdefghijklmnopqrstuvwxyz,unsubscribe,2026-01-02T03:04:05.678Z,,,\n"
    )
    assert shell("import", shell.file(content), "--account", "acme").endswith("4 entries taken.\n")
    assert shell.code == 0
    assert shell("export", "-", "--account", "acme") == content
    assert shell("export", "-") == HEAD
    copy = shell.directory / "copy.csv"
    assert shell("export", str(copy), "--account", "acme") == f"{copy}: 4 entries.\n"
    assert copy.read_text() == content


def test_a_bad_line_stops_no_other(shell: Shell) -> None:
    content = HEAD.encode() + b"\n".join(
        (
            b"ann@example.com,dislike,,,,",
            b"bob@,,,,,",
            b'"unclosed@example.com,,,,,',
            b"\xff\xfe@example.com,,,,,",
            b"old@example.com,,,1999-01-01T00:00:00Z,,",
            b"when@example.com,,soon,,,",
            b"dawn@example.com,,0001-01-01T00:00:00+14:00,,,",
            b"long@example.com,,,,," + b"x" * 501,
            b"huge@example.com,,,,," + b"x" * 20_000,
            b"many@example.com,,,,,,,,",
            b"",
            b"good@example.com",
        )
    )
    took = shell.json("import", shell.file(content))
    assert shell.code == 1
    assert (took["added"], took["refused"]) == (1, 10)
    assert [one["line"] for one in took["problems"]] == list(range(2, 12))
    assert [one["address"] for one in shell.json("list")["suppressions"]] == ["good@example.com"]
    shell("import", shell.file(content))
    assert "line 2: reason: one of bounce, complaint, unsubscribe, operator" in shell.errors


def test_a_file_that_cannot_be_read(shell: Shell) -> None:
    shell("import", str(shell.directory / "nothing.csv"))
    assert shell.code == 1
    assert "cannot be read: No such file or directory" in shell.errors


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"a@x.example\r\nb@x.example\r\n", [(1, "a@x.example"), (2, "b@x.example")]),
        (b"\xef\xbb\xbfa@x.example", [(1, "a@x.example")]),
        (b'Email Address\n"a@x.example"\n', [(2, "a@x.example")]),
        (b"status,email,created\n5.1.1,a@x.example,1700000000\n", [(2, "a@x.example")]),
        (b"\n\n  \na@x.example\n", [(4, "a@x.example")]),
        (
            b'\xef\xbb\xbfemail;name\r\na@x.example;"Ann, B"\r\nb@x.example;Bob\r\n',
            [(2, "a@x.example"), (3, "b@x.example")],
        ),
        (b"", []),
        (b"address\n", []),
    ],
)
def test_lists_of_other_systems(content: bytes, found: list[tuple[int, str]]) -> None:
    taken, outcome = rows(content)
    assert [(row["line"], row["address"]) for row in taken] == found
    assert outcome.refused == 0


def test_columns_that_mean_nothing_here_are_named() -> None:
    _, outcome = rows(b"email,IP,reason,reason\n")
    assert outcome.ignored == ["IP", "reason"]
    _, outcome = rows("email,Straße\n".encode("latin-1"))
    assert outcome.ignored == ["Stra\ufffde"], "it can be printed"


def test_a_heading_without_addresses_is_a_line_like_others() -> None:
    taken, outcome = rows(b"name,phone\nann,1\n")
    assert not taken
    assert outcome.refused == 2


def test_lines_are_handed_over_in_parts(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []

    class Answering:
        def __init__(self, _: object) -> None: ...

        def ask_daemon(self, _action: str, args: dict[str, Any]) -> Any:
            parts.append(len(args["rows"]))
            return {"added": len(args["rows"]), "problems": []}

    monkeypatch.setattr(suppressionfile, "connect", SimpleNamespace(Desk=Answering))
    content = "".join(f"p{number}@example.com\n" for number in range(2 * suppressionfile.PART_LINES + 1))
    shell("import", shell.file(content))
    assert parts == [suppressionfile.PART_LINES, suppressionfile.PART_LINES, 1]
