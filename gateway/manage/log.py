"""The log as operators ask for it: its level, seen and changed while the daemon runs."""

import logging
from collections.abc import Callable
from typing import Any

from gateway import observe
from gateway.config import Log
from gateway.manage import refusals
from gateway.observe import MailLog

log = logging.getLogger("gateway.manage")

Args = dict[str, Any]


class LogActions:
    """Actions over the logs of this process; `configured` says what the file has, `changed` whether the level is
    another one since."""

    def __init__(self, mail_log: MailLog, configured: Callable[[], Log]) -> None:
        self._mail_log = mail_log
        self._configured = configured
        self.changed = False

    async def show(self, args: Args) -> Any:
        del args
        configured = self._configured()
        return {
            "level": observe.level(),
            "configured": configured.level,
            "format": configured.format,
            "mail_log": self._mail_log.enabled,
        }

    async def level(self, args: Args) -> Any:
        """Args: level. Until the next restart or reload; the mail log follows."""
        level = str(args["level"])
        if level not in observe.LEVELS:
            raise refusals.invalid("level", f"one of {', '.join(observe.LEVELS)}")
        before = observe.level()
        observe.set_level("info")  # so that what changed is in the log, whatever it was
        log.info("log level %s in place of %s, until the next restart or reload", level, before)
        observe.set_level(level)
        self._mail_log.enabled = observe.tells_mail(level)
        self.changed = level != self._configured().level
        return await self.show({})
