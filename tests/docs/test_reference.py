"""docs/reference/ is what the code says now: `make docs` writes it."""

import argparse
from pathlib import Path
from typing import Final

import pytest

from docs.generate import commands, pages, reloading, settings, settingswords
from gateway import cli

REFERENCE: Final = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_is_not_stale(name: str) -> None:
    path = REFERENCE / name
    made = pages.PAGES[name]()
    assert path.exists(), "run: make docs"
    assert path.read_text() == made, "the code has changed: run make docs, and read what it wrote"
    assert made.count("\n| ") > 10, "it lists nothing"


def test_there_is_no_other_page() -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(pages.PAGES)


def test_a_key_without_a_word_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "WORDS", settingswords.WORDS[1:])
    with pytest.raises(LookupError, match="does not explain hostname"):
        settings.page()


def test_a_command_that_is_added_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    known = commands.page()
    monkeypatch.setattr(cli, "_parser", lambda: argparse.ArgumentParser("mail-gateway other", description="Another."))
    assert "mail-gateway other" in commands.page()
    assert commands.page() != known


def test_a_command_that_has_others_below_it_is_one_too() -> None:
    page = commands.page()
    assert "\n## mail-gateway log\n" in page
    assert "\n## mail-gateway log level\n" in page
    assert "\n## mail-gateway queue\n" not in page
    suspend = page.partition("## mail-gateway queue suspend\n")[2].partition("\n## ")[0]
    assert "--route" in suspend
    assert "--older" not in suspend  # it says so itself, where it is asked for


def test_what_a_reload_does_is_told_of_every_key() -> None:
    known = reloading.words()
    assert reloading.of("data_dir", known) == "restart"
    assert reloading.of("smtp.listeners[].listen", known) == "restart"
    assert reloading.of("keys.NAME.limits[].burst", known) == "yes"
    paths = set(settings.read())
    missing = {
        path for path in known if not any(one == path or one.startswith((f"{path}.", f"{path}[")) for one in paths)
    }
    # Names of things and the file's own path are no keys of the file; the relay's and MX routes' are told by type.
    assert {path for path in missing if not path.endswith((".name", "path"))} == set()
