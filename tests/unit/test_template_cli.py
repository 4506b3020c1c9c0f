"""`mail-gateway template` as an operator meets it, against the actions behind a real control socket."""

import argparse
import asyncio
import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import connect, template
from gateway.control import ControlServer
from gateway.errors import GatewayError
from gateway.policy.templates import MAX_PART_BYTES, Templates
from gateway.runtime import Clock
from gateway.store.sqlite import SqliteStore
from gateway.templates import TemplateManager


@contextmanager
def answering(data: Path, directory: Path) -> Iterator[None]:
    """The actions on a control socket, in a thread of this process."""
    ready = threading.Event()
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        stops.append((asyncio.get_running_loop(), stop))
        store = await SqliteStore.open(data / "gateway.db")
        manager = TemplateManager(store.records, Templates(store.records, directory), clock=Clock())
        server = ControlServer(data, manager.actions())
        await server.start()
        ready.set()
        await stop.wait()
        await server.stop()
        await store.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        for loop, stop in stops:
            loop.call_soon_threadsafe(stop.set)
        thread.join()


class Shell:
    """Runs the command and keeps what it printed."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.file = directory / "gateway.yaml"
        self.file.write_text(f"data_dir: {directory / 'data'}\n")
        self._capsys = capsys
        self._parser = argparse.ArgumentParser()
        common = argparse.ArgumentParser(add_help=False)
        template.register(self._parser.add_subparsers(), common)

    def ok(self, *argv: str) -> str:
        arguments = self._parser.parse_args(["template", *argv])
        arguments.config = self.file
        assert arguments.run(arguments) == 0
        return self._capsys.readouterr().out

    def json(self, *argv: str) -> Any:
        return json.loads(self.ok(*argv, "--json"))

    def fails(self, *argv: str) -> str:
        with pytest.raises(GatewayError) as error:
            self.ok(*argv)
        return "\n".join(connect.words(error.value))

    def write(self, name: str, content: str | bytes) -> str:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    (tmp_path / "data").mkdir()
    (tmp_path / "templates" / "shared").mkdir(parents=True)
    (tmp_path / "templates" / "shared" / "body.txt").write_text("x")
    with answering(tmp_path / "data", tmp_path / "templates"):
        yield Shell(tmp_path, capsys)


def test_a_template_from_files(shell: Shell) -> None:
    html = shell.write("body.html", "\ufeff<p>{{name}}</p>\n\x1b[31m")
    text = shell.write("body.txt", "Hi {{name}}\n")
    added = shell.ok("add", "welcome", "--account", "acme", "--subject", "Hi {{name}}", "--html", html, "--text", text)
    assert added.startswith("The template welcome is tpl_")
    id_ = added.split()[-1].rstrip(".")
    shown = shell.json("show", "welcome", "--account", "acme")
    assert (shown["id"], shown["subject"], shown["html_body"]) == (id_, "Hi {{name}}", "<p>{{name}}</p>\n\x1b[31m")
    for reference in ("welcome", id_):
        printed = shell.ok("show", reference, "--account", "acme")
        assert "alias:   welcome\n" in printed
        assert "\nhtml_body:\n<p>{{name}}</p>\n\\x1b[31m\n" in printed
        assert "\ntext_body:\nHi {{name}}\n" in printed
    heading, own, shared = shell.ok("list", "--account", "acme").splitlines()
    assert own.index("Hi {{name}}") == heading.index("SUBJECT")
    assert shared.split()[:2] == ["shared", "-"]
    assert [one["alias"] for one in shell.json("list", "--account", "other")] == ["shared"]
    assert shell.ok("remove", id_, "--account", "acme") == "The template welcome is removed.\n"
    assert "no template with this id" in shell.fails("show", "welcome", "--account", "acme")
    assert "no template with this id" in shell.fails("remove", "welcome", "--account", "acme")


def test_a_part_from_standard_input(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Grüße\n".encode()), encoding="utf-8"))
    added = shell.json("add", "welcome", "--account", "acme", "--text", "-")
    assert (added["subject"], added["html_body"], added["text_body"]) == ("", None, "Grüße\n")
    assert "not both" in shell.fails("add", "a", "--account", "acme", "--text", "-", "--html", "-")


def test_every_fault_is_said(shell: Shell) -> None:
    html = shell.write("body.html", "{{#a}}\n{{b c}}")
    said = shell.fails("add", "Welcome", "--account", "acme", "--html", html).splitlines()
    assert len(said) == 3
    assert said[0].startswith("alias: ")
    assert said[1].startswith("html_body: line 2, column 1: ")
    assert said[2].startswith("html_body: line 1, column 1: ")
    text = shell.write("body.txt", "x")
    shell.ok("add", "welcome", "--account", "acme", "--text", text)
    assert "alias welcome already" in shell.fails("add", "welcome", "--account", "acme", "--text", text)
    assert "change it there" in shell.fails("remove", "shared", "--account", "acme")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff", "is not UTF-8 text"), (b"x" * (MAX_PART_BYTES + 1), "has more than"), (None, "cannot be read")],
)
def test_a_file_that_is_no_part(shell: Shell, content: bytes | None, words: str) -> None:
    name = shell.write("part", content) if content is not None else str(shell.directory / "nowhere")
    assert words in shell.fails("add", "a", "--account", "acme", "--html", name)


def test_an_account_must_be_named(shell: Shell) -> None:
    for argv in (["add", "a"], ["list"], ["show", "a"], ["remove", "a"]):
        with pytest.raises(SystemExit):
            shell.ok(*argv)
