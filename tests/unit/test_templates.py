"""Stored templates over a real store, and those of a directory."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import Reason, Refused
from gateway.message.template import StoredTemplate
from gateway.policy import templates as policy
from gateway.policy.templates import MAX_PART_BYTES, Templates
from gateway.runtime import Clock, show_id
from gateway.store.records import TemplateRecord
from gateway.store.sqlite import SqliteStore
from gateway.templates import TemplateManager, TemplateText, head, view

NOW = 1_800_000_000_000
TEXT = TemplateText("welcome", "Hi {{name}}", "<p>{{name}}</p>", "Hi {{name}}")


class Desk:
    """A manager, what finds for it, and a directory."""

    def __init__(self, store: SqliteStore, directory: Path) -> None:
        self.now = NOW
        self.store = store
        self.directory = directory
        self.templates = Templates(store.records, directory)
        self.manager = TemplateManager(store.records, self.templates, clock=Clock(now_ms=lambda: self.now))

    def write(self, alias: str, **files: str | bytes) -> Path:
        """Files by name, `_` for the dot; a later time each, as an editor would leave."""
        place = self.directory / alias
        place.mkdir(exist_ok=True)
        for name, content in files.items():
            file = place / name.replace("_", ".")
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            self.now += 1000
            os.utime(file, ns=(self.now * 1_000_000,) * 2)
        return place

    async def subject(self, reference: str, account: str = "acme") -> str | None:
        found = await self.templates.find(account, reference)
        return found.subject.render({"name": "Ann"}, escape=False, limit=100) if found else None


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    (tmp_path / "templates").mkdir()
    store = await SqliteStore.open(tmp_path / "gateway.db")
    yield Desk(store, tmp_path / "templates")
    await store.close()


# Stored


async def test_a_template_is_added_found_and_removed(desk: Desk) -> None:
    record = await desk.manager.add("acme", TEXT)
    id_ = show_id("tpl_", record.uuid)
    assert len(id_) == 28
    for reference in (id_, "welcome"):
        found = await desk.templates.find("acme", reference)
        assert found == StoredTemplate.read(TEXT.subject, TEXT.html, TEXT.text)
        assert await desk.manager.get("acme", reference) == record
        assert await desk.templates.find("other", reference) is None
    assert view(record) == {
        "id": id_,
        "alias": "welcome",
        "subject": "Hi {{name}}",
        "source": "store",
        "created_at": "2027-01-15T08:00:00.000Z",
        "updated_at": "2027-01-15T08:00:00.000Z",
        "html_body": "<p>{{name}}</p>",
        "text_body": "Hi {{name}}",
    }
    assert [head(one) for one in await desk.manager.listing("acme")] == [head(record)]
    assert await desk.manager.listing("other") == []
    assert await desk.manager.remove("acme", "welcome") == record
    assert await desk.templates.find("acme", id_) is None


@pytest.mark.parametrize(
    "reference", ["", "nobody", "tpl_", "tpl_" + "0" * 24, "tpl_" + "z" * 24, "Welcome", "../acme", "a/b", "a" * 65]
)
async def test_what_is_unknown_is_not_found(desk: Desk, reference: str) -> None:
    await desk.manager.add("acme", TEXT)
    assert await desk.templates.find("acme", reference) is None
    for refused in (
        desk.manager.get("acme", reference),
        desk.manager.replace("acme", reference, TEXT),
        desk.manager.remove("acme", reference),
    ):
        with pytest.raises(Refused) as refusal:
            await refused
        assert refusal.value.reason is Reason.NOT_FOUND


async def test_another_account_can_neither_change_nor_remove(desk: Desk) -> None:
    record = await desk.manager.add("acme", TEXT)
    for reference in ("welcome", show_id("tpl_", record.uuid)):
        for refused in (desk.manager.replace("other", reference, TEXT), desk.manager.remove("other", reference)):
            with pytest.raises(Refused) as refusal:
                await refused
            assert refusal.value.reason is Reason.NOT_FOUND
    assert await desk.manager.get("acme", "welcome") == record
    await desk.manager.add("other", TEXT)  # an alias is the account's own


async def test_a_replaced_template_is_served_at_once(desk: Desk) -> None:
    record = await desk.manager.add("acme", TEXT)
    assert await desk.subject("welcome") == "Hi Ann"
    desk.now += 1  # or not: what is served does not hang on the clock
    for subject in ("Hello {{name}}", "Bye {{name}}"):
        changed = await desk.manager.replace("acme", "welcome", TemplateText("", subject, None, "x"))
        assert (changed.uuid, changed.alias, changed.html, changed.updated_at) == (
            record.uuid,
            "welcome",
            None,
            NOW + 1,
        )
        assert await desk.subject("welcome") == subject.replace("{{name}}", "Ann")
    moved = await desk.manager.replace("acme", "welcome", TemplateText("hello", "s", None, "x"))
    assert moved.alias == "hello"
    assert await desk.subject("welcome") is None


async def test_an_alias_is_taken_once(desk: Desk) -> None:
    await desk.manager.add("acme", TEXT)
    await desk.manager.add("acme", TemplateText("other", "s", None, "x"))
    for refused in (
        desk.manager.add("acme", TEXT),
        desk.manager.replace("acme", "other", TEXT),
    ):
        with pytest.raises(Refused, match="alias welcome already") as refusal:
            await refused
        assert refusal.value.reason is Reason.CONFLICT
        assert refusal.value.param == "alias"
    for _ in range(2):  # none is not a name
        await desk.manager.add("acme", TemplateText("", "s", None, "x"))


async def test_an_account_has_so_many(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.templates.MAX_TEMPLATES", 2)
    for _ in range(2):
        await desk.manager.add("acme", TemplateText("", "s", None, "x"))
    with pytest.raises(Refused, match="no room"):
        await desk.manager.add("acme", TemplateText("", "s", None, "x"))
    await desk.manager.add("other", TemplateText("", "s", None, "x"))


async def test_a_stored_template_that_cannot_be_read_any_more(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    record = await desk.manager.add("acme", TemplateText("old", "{{a b}}", None, "x"))  # as an older version took it
    assert await desk.templates.find("acme", "old") is None
    assert show_id("tpl_", record.uuid) in caplog.text


async def test_what_is_read_is_kept_up_to_a_bound(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = StoredTemplate.read

    def counting(subject: str, html_body: str | None, text_body: str | None) -> StoredTemplate:
        reads.append(subject)
        return read(subject, html_body, text_body)

    monkeypatch.setattr(StoredTemplate, "read", counting)
    monkeypatch.setattr(policy, "_CACHE_CHARACTERS", 5000)
    for alias in "abc":
        await desk.manager.add("acme", TemplateText(alias, alias, None, "x" * 900))
    for alias in "aabbaacca":
        assert await desk.subject(alias) == alias
    assert reads == ["a", "b", "c"]
    assert await desk.subject("b") == "b"
    assert reads == ["a", "b", "c", "b"]


# What is wrong with a template


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        (TEXT, []),
        (TemplateText("", "", "x", None), []),
        (TemplateText("a", "s", None, None), ["html_body"]),
        (TemplateText("a", "s", "", ""), ["html_body"]),
        (TemplateText("A", "s", None, "x"), ["alias"]),
        (TemplateText("-a", "s", None, "x"), ["alias"]),
        (TemplateText("a" * 65, "s", None, "x"), ["alias"]),
        (TemplateText("a\n", "s", None, "x"), ["alias"]),
        (TemplateText("tpl_" + "0" * 24, "s", None, "x"), ["alias"]),
        (TemplateText("a", "s\r\nBcc: x", None, "x"), ["subject"]),
        (TemplateText("a", "s\u2028", None, "x"), ["subject"]),
        (TemplateText("a", "s" * 8001, None, "x"), ["subject"]),
        (TemplateText("a", "s", "ü" * (MAX_PART_BYTES // 2) + "x", "\0"), ["html_body", "text_body"]),
        (
            TemplateText("-", "{{a b}}", "{{#x}}{{y z}}", "{{"),
            ["alias", "subject", "html_body", "html_body", "text_body"],
        ),
    ],
)
def test_everything_wrong_is_told(given: TemplateText, paths: list[str]) -> None:
    assert [problem.path for problem in given.problems()] == paths


# The directory


async def test_a_directory_serves_every_account(desk: Desk) -> None:
    desk.write("welcome", subject_txt="Hi {{name}}\n", body_html="\ufeff<p>{{name}}</p>\n", body_txt="Hi\n")
    desk.write("plain", body_txt="x")
    desk.write("Not-An-Alias", body_txt="x")
    (desk.directory / "empty").mkdir()
    (desk.directory / "readme").write_text("not a directory")
    for account in ("acme", "other"):
        assert await desk.subject("welcome", account) == "Hi Ann"
        assert [record.alias for record in await desk.manager.listing(account)] == ["plain", "welcome"]
        for unknown in ("Not-An-Alias", "empty", "readme", ".", ".."):
            assert await desk.subject(unknown, account) is None
    record = await desk.manager.get("acme", "welcome")
    assert (record.subject, record.html, record.text) == ("Hi {{name}}", "<p>{{name}}</p>\n", "Hi\n")
    assert head(record) == {
        "id": None,
        "alias": "welcome",
        "subject": "Hi {{name}}",
        "source": "directory",
        "created_at": "2027-01-15T08:00:03.000Z",
        "updated_at": "2027-01-15T08:00:03.000Z",
    }


async def test_an_account_s_own_hides_the_directory_s(desk: Desk) -> None:
    desk.write("welcome", subject_txt="file", body_txt="x")
    await desk.manager.add("acme", TEXT)
    assert await desk.subject("welcome") == "Hi Ann"
    assert await desk.subject("welcome", "other") == "file"
    assert [head(record)["source"] for record in await desk.manager.listing("acme")] == ["store"]
    await desk.manager.remove("acme", "welcome")
    assert await desk.subject("welcome") == "file"


async def test_files_are_not_changed_here(desk: Desk) -> None:
    place = desk.write("welcome", body_txt="x")
    for refused in (desk.manager.remove("acme", "welcome"), desk.manager.replace("acme", "welcome", TEXT)):
        with pytest.raises(Refused, match="change it there") as refusal:
            await refused
        assert refusal.value.reason is Reason.CONFLICT
        assert str(desk.directory) not in refusal.value.text
    assert (place / "body.txt").read_text() == "x"


async def test_a_changed_file_is_read_again_and_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    read_text = policy._text

    def counting(file: Path) -> str:
        read.append(file.name)
        return read_text(file)

    monkeypatch.setattr(policy, "_text", counting)
    place = desk.write("welcome", subject_txt="one", body_txt="x")
    assert [await desk.subject("welcome") for _ in range(3)] == ["one"] * 3
    assert read == ["subject.txt", "body.txt"]
    desk.write("welcome", subject_txt="two")
    assert await desk.subject("welcome") == "two"
    (place / "subject.txt").unlink()
    assert await desk.subject("welcome") == ""
    (place / "body.txt").unlink()
    assert await desk.subject("welcome") is None
    assert desk.templates._seen == {}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"subject_txt": "only"}, "html_body: is required"),
        ({"body_html": "a\n{{b"}, "html_body: line 2, column 1"),
        ({"subject_txt": "a\nb", "body_txt": "x"}, "subject: must not hold line breaks"),
        ({"body_txt": b"\xff"}, "body.txt is not UTF-8"),
        ({"body_txt": "x" * (MAX_PART_BYTES + 1)}, "body.txt has more than"),
        ({"body_txt": ""}, "html_body: is required"),
    ],
)
async def test_a_broken_entry_is_named_once_and_not_served(
    desk: Desk, caplog: pytest.LogCaptureFixture, files: dict[str, str | bytes], words: str
) -> None:
    desk.write("welcome", **files)
    for _ in range(3):
        assert await desk.subject("welcome") is None
        assert await desk.manager.listing("acme") == []
    (logged,) = [r for r in caplog.records if r.name == "gateway.templates"]
    assert logged.levelno == logging.WARNING
    assert "welcome" in logged.getMessage()
    assert words in logged.getMessage()
    desk.write("welcome", subject_txt="mended", body_html="x", body_txt="x")
    assert await desk.subject("welcome") == "mended"


async def test_what_is_no_file_is_not_waited_for(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    place = desk.write("welcome", body_txt="x")
    os.mkfifo(place / "body.html")
    async with asyncio.timeout(30):
        assert await desk.subject("welcome") is None
    assert "body.html is not a file" in caplog.text


async def test_a_directory_that_is_gone(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.directory.rmdir()
    assert await desk.subject("welcome") is None
    assert await desk.manager.listing("acme") == []
    assert "cannot be read" in caplog.text


async def test_without_a_directory(desk: Desk) -> None:
    templates = Templates(desk.store.records, None)
    assert await templates.find("acme", "welcome") is None
    assert await templates.files() == ()


# Operator actions


async def test_actions_take_and_give_json_values(desk: Desk) -> None:
    act = desk.manager.actions()
    added = await act["template.add"](
        {"account": "acme", "alias": "welcome", "subject": "Hi {{name}}", "html": None, "text": "Hi {{name}}"}
    )
    assert added["alias"] == "welcome"
    assert await act["template.show"]({"account": "acme", "reference": added["id"]}) == added
    (listed,) = await act["template.list"]({"account": "acme"})
    assert listed == {name: value for name, value in added.items() if not name.endswith("_body")}
    removed = await act["template.remove"]({"account": "acme", "reference": "welcome"})
    assert removed == {**listed, "removed": True}
    assert await act["template.list"]({"account": "acme"}) == []


@pytest.mark.parametrize(
    ("changed", "reason", "paths"),
    [
        ({"alias": ""}, Reason.MISSING_PARAMETER, ["alias"]),
        ({"alias": "Ä"}, Reason.VALIDATION_ERROR, ["alias"]),
        ({"account": "a\n"}, Reason.INVALID_PARAMETER, ["account"]),
        ({"text": "{{"}, Reason.TEMPLATE_ERROR, ["text_body"]),
        ({"alias": "Ä", "subject": "{{", "text": None}, Reason.MISSING_PARAMETER, ["html_body", "alias", "subject"]),
    ],
)
async def test_what_cannot_be_added_is_refused_whole(
    desk: Desk, changed: dict[str, object], reason: Reason, paths: list[str]
) -> None:
    args = {"account": "acme", "alias": "a", "subject": "", "html": None, "text": "x", **changed}
    with pytest.raises(Refused) as refusal:
        await desk.manager.template_add(args)
    assert refusal.value.reason is reason
    assert [problem.path for problem in refusal.value.problems] == paths
    assert refusal.value.param == paths[0]


async def test_changes_are_in_the_log_without_their_text(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    record: TemplateRecord = await desk.manager.add("acme", TEXT)
    await desk.manager.replace("acme", "welcome", TEXT)
    await desk.manager.remove("acme", "welcome")
    for verb in ("added", "replaced", "removed"):
        assert f"template {show_id('tpl_', record.uuid)} {verb}: account=acme alias=welcome" in caplog.text
    assert "{{name}}" not in caplog.text
