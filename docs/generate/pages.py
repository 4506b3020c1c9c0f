"""The pages of the reference, by file name."""

from collections.abc import Callable, Mapping
from typing import Final

from docs.generate import commands, metrics, refusals, settings, vocabulary

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "cli.md": commands.page,
    "config.md": settings.page,
    "errors.md": refusals.page,
    "events.md": vocabulary.page,
    "metrics.md": metrics.page,
}
