"""The level of the log, while the daemon runs."""

import io
import logging
from collections.abc import Iterator

import pytest

from gateway import observe
from gateway.config import Log
from gateway.errors import Refused
from gateway.manage.log import LogActions
from gateway.observe import MailLog


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("gateway")
    before = found.level
    found.setLevel(logging.INFO)
    yield found
    found.setLevel(before)


@pytest.mark.parametrize(("level", "mail"), [("debug", True), ("info", True), ("warning", False), ("error", False)])
async def test_the_mail_log_follows(logger: logging.Logger, level: str, mail: bool) -> None:
    mail_log = MailLog(io.StringIO())
    actions = LogActions(mail_log, lambda: Log(level="error", format="json"))
    shown = await actions.level({"level": level})
    assert shown == {"level": level, "configured": "error", "format": "json", "mail_log": mail}
    assert shown == await actions.show({})
    assert mail_log.enabled is mail
    assert logger.getEffectiveLevel() == getattr(logging, level.upper())


async def test_a_change_is_in_the_log_whatever_the_level(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    logger.setLevel(logging.ERROR)
    await LogActions(MailLog(io.StringIO()), Log).level({"level": "warning"})
    assert caplog.messages == ["log level warning in place of error, until the next restart or reload"]


async def test_a_level_that_is_none(logger: logging.Logger) -> None:
    with pytest.raises(Refused, match="debug, info, warning, error"):
        await LogActions(MailLog(io.StringIO()), Log).level({"level": "chatty"})
    assert observe.level() == "info"
    assert logger.getEffectiveLevel() == logging.INFO
