"""The mail log and the daemon's own log.

Guarantees: one function per thing that happens to mail, the message id on every line, one line per event, no foreign
control character in it, never a body or a secret. Lines are gathered and written together a moment later (0.5 µs a
line against 10 for `logging`), so a killed process may lose its last lines: the store, not the log, is the record.
Whoever is refused a thousand times does not fill the log: the same again from one address is told once a minute.
Events, fields and what to make of them: docs/log.md, held against this by a test.

Where addresses are not to be shown, a `Mask` stands before both: whatever looks like one becomes a code that is the
same each time, wherever it stands in a line, and its domain stays.

Where the journal reads our standard error, text lines begin with their priority, as sd-daemon(3) says, in place of the
time, which the journal notes itself: `journalctl -p warning` then shows what needs a person. JSON stays as it is.
"""

import contextlib
import json
import logging
import os
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TextIO

FLUSH_LINES: Final = 256  # lines gathered before they are written at once
LEVELS: Final = ("debug", "info", "warning", "error")
AGAIN_S: Final = 60.0  # after which the same refusal of the same client is told again
MOST_TOLD: Final = 10_000  # refusals that are remembered for it; of more, the oldest is forgotten
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # of syslog(3)
_MAIL: Final = 6  # what happens to mail is information, good or bad
_NAMED: Final = 10  # recipients in a line
_CODE: Final = 8  # characters of 5 bits that stand for an address
_ADDRESSES: Final = frozenset({"from", "to"})  # fields that are an address as a whole
_LOCAL: Final = r"""[^\s<>()\[\]:;,"\\@]"""
# A code stays. A local part begins where none is before it, so each character is looked at once. Remote hosts put
# addresses into URLs, too.
_ADDRESS: Final = re.compile(
    rf"""(?<!\w)h:[a-z2-7]{{{_CODE}}}@(?=\w)"""
    rf"""|(?P<local>"(?:[^"\\]|\\.){{0,100}}"|(?<!{_LOCAL}){_LOCAL}+)(?:@|%40)"""
    r"""(?P<domain>\w(?:[\w.-]*\w)?|\[[^\]\s]{1,80}\])"""
)

Field = str | int | float | bool | None
Form = Callable[[str, dict[str, Field]], str]

log = logging.getLogger("gateway.mail")


class Mask:
    """Shows a code in place of each address: `h:a2b3c4d5@example.com`. `hashed` is Tokens.hashed."""

    def __init__(self, hashed: Callable[[str], str]) -> None:
        self._hashed = hashed

    def address(self, address: str) -> str:
        """Of one; what has no domain stays."""
        local, at, domain = address.rpartition("@")
        return self._shown(local, domain) if at else address

    def text(self, text: str) -> str:
        """Of all that stand in a text; a local part alone is none."""
        if "@" not in text and "%40" not in text:
            return text
        return _ADDRESS.sub(self._found, text)

    def _found(self, found: re.Match[str]) -> str:
        if found["local"] is None:
            return found[0]
        local = found["local"].lstrip("'")  # a quotation mark, rather than a part of it
        return found["local"][: -len(local) or None] + self._shown(local, found["domain"])

    def _shown(self, local: str, domain: str) -> str:
        code = self._hashed(f"{local}@{domain}").removeprefix("hash:")
        return f"h:{code[:_CODE]}@{domain}"


class MailLog:
    """Writes mail events as `key=value` text or as JSON lines to a stream.

    `defer` schedules a flush (the loop's `call_later` with a fraction of a second); without it every line is written
    at once.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        as_json: bool = False,
        enabled: bool = True,
        defer: Callable[[Callable[[], None]], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mask: Mask | None = None  # None: addresses are shown
        self._stream = stream
        self._format = _form(stream, as_json=as_json)
        self.enabled = enabled
        self._defer = defer
        self._lines: list[str] = []
        self._scheduled = False
        self._monotonic = monotonic
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()  # refusals, by when they were told last

    def reconfigure(self, *, as_json: bool, enabled: bool) -> None:
        """For the lines to come."""
        self._format = _form(self._stream, as_json=as_json)
        self.enabled = enabled

    def accepted(
        self,
        *,
        message: str,
        door: str,
        key: str,
        sender: str,
        recipients: int,
        size: int,
        client: str,
    ) -> None:
        self._write(
            "accepted",
            {
                "id": message,
                "door": door,
                "key": key,
                "from": sender,
                "recipients": recipients,
                "size": size,
                "client": client,
            },
        )

    def refused(self, *, door: str, key: str, client: str, reason: str, text: str, always: bool = False) -> None:
        """A submission that was not taken has no id: the key and the client say whose it was. What was told of them for
        that reason within the minute goes to the daemon's log, at debug, unless it is to be told `always`."""
        fields: dict[str, Field] = {"door": door, "key": key, "client": client, "reason": reason, "text": text}
        if not self.enabled:
            return
        if self._is_news((client, reason, key)) or always:
            self._write("refused", fields)
        elif log.isEnabledFor(logging.DEBUG):
            log.debug("refused again: %s", text, extra={"fields": fields})

    def reported(
        self, *, message: str, notice: str, key: str, to: str, kind: str, recipients: Sequence[str], note: str = ""
    ) -> None:
        """What became of recipients of `message` is told to its sender in a mail of its own, `notice`; it is "", and
        the note says why, where that was withheld. Ten recipients are named."""
        shown = " ".join(recipients[:_NAMED])
        more = f" and {len(recipients) - _NAMED} more" if len(recipients) > _NAMED else ""
        fields: dict[str, Field] = {"id": message}
        if notice:
            fields["notice"] = notice
        fields |= {"key": key, "to": to, "kind": kind, "recipients": shown + more}
        if note:
            fields["note"] = note
        self._write("reported" if notice else "withheld", fields)

    def attempted(
        self,
        event: str,
        *,
        message: str,
        to: str,
        route: str,
        host: str,
        address: str,
        tls: str,
        attempt: int,
        took_ms: int,
        reply: str,
        extra: dict[str, Field],
    ) -> None:
        """`delivered`, `deferred`, `bounced`, `failed`, `expired`, `captured`, `suppressed`: the outcome for one
        recipient."""
        fields: dict[str, Field] = {"id": message, "to": to, "route": route}
        if host:
            fields["host"] = host
        if address:
            fields |= {"ip": address, "tls": tls or "none"}
        fields |= {"attempt": attempt, "ms": took_ms}
        if reply:
            fields["reply"] = reply
        self._write(event, fields | extra)

    def flush(self) -> None:
        self._scheduled = False
        if self._lines:
            text = "".join(self._lines)
            self._lines.clear()
            # A log that cannot be written (its disk is full) must not make a failure of what it tells.
            with contextlib.suppress(OSError):
                self._stream.write(text)
                self._stream.flush()

    def _is_news(self, refusal: tuple[str, str, str]) -> bool:
        """Whether it was not told within the minute; then it is now."""
        now, told = self._monotonic(), self._told
        before = told.get(refusal)
        if before is not None and now - before < AGAIN_S:
            return False
        told[refusal] = now
        told.move_to_end(refusal)
        if len(told) > MOST_TOLD:
            told.popitem(last=False)
        return True

    def _write(self, event: str, fields: dict[str, Field]) -> None:
        if not self.enabled:
            return
        if self.mask is not None:
            fields = _masked(fields, self.mask)
        self._lines.append(self._format(event, fields))
        if self._defer is None or len(self._lines) >= FLUSH_LINES:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._defer(self.flush)


def setup_logging(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """The daemon's own log, in the same form as the mail log. Libraries speak from warnings on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter(_form(handler.stream, as_json=as_json)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_level(level)
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's own lines carry addresses


def set_level(level: str) -> None:
    """From which level on the daemon's own lines are written; the mail log is switched where it is."""
    logging.getLogger("gateway").setLevel(level.upper())


def set_mask(mask: Mask | None) -> None:
    """How the daemon's own lines show addresses from now on; None: as they are."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Formatter):
            handler.formatter.mask = mask


def level() -> str:
    """The one in force."""
    return logging.getLevelName(logging.getLogger("gateway").getEffectiveLevel()).lower()


def tells_mail(level: str) -> bool:
    """Whether the mail log is written at that level."""
    return level in {"debug", "info"}


class _Formatter(logging.Formatter):
    def __init__(self, form: Form) -> None:
        super().__init__()
        self.mask: Mask | None = None
        self._line = form

    def format(self, record: logging.LogRecord) -> str:
        own: dict[str, Field] = getattr(record, "fields", {})
        fields: dict[str, Field] = {"logger": record.name, **own, "text": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if self.mask is not None:
            fields = _masked(fields, self.mask)
        return self._line(record.levelname.lower(), fields).rstrip("\n")


def _masked(fields: dict[str, Field], mask: Mask) -> dict[str, Field]:
    shown = dict(fields)
    for name, value in fields.items():
        if isinstance(value, str):
            whole = name in _ADDRESSES and "<" not in value
            shown[name] = mask.address(value) if whole else mask.text(value)
    return shown


def _form(stream: TextIO, *, as_json: bool) -> Form:
    """How lines to that stream look."""
    if as_json:
        return _json_line
    return _journal_line if _is_journal(stream) else _text_line


def _is_journal(stream: TextIO) -> bool:
    """Whether the journal reads it: systemd.exec(5) names device and inode of the stream."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file, or closed
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


def _stamp() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


def _text_line(event: str, fields: dict[str, Field]) -> str:
    return f"{_stamp()} {_words(event, fields)}\n"


def _journal_line(event: str, fields: dict[str, Field]) -> str:
    return f"<{_PRIORITIES.get(event, _MAIL)}>{_words(event, fields)}\n"


def _words(event: str, fields: dict[str, Field]) -> str:
    parts = [event]
    for name, value in fields.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if text.isascii() and text.isprintable() and " " not in text and '"' not in text and "=" not in text and text:
            parts.append(f"{name}={text}")
        else:
            parts.append(f"{name}={json.dumps(text)}")
    return " ".join(parts)


def _json_line(event: str, fields: dict[str, Field]) -> str:
    return json.dumps({"at": _stamp(), "event": event, **fields}) + "\n"
