"""Attachments of the native API: `{filename, content, content_type, content_id, disposition}`.

Guarantees: pure; every fault is added to `Problems`. `content` is base64 (RFC 4648, 4) with padding,
strictly; line breaks (RFC 2045 writers make them) are the only thing ignored. A large one is decoded in
steps of about 0.1 ms, so that a thread doing it never holds the interpreter for long. It does not look into
the content.
"""

import binascii
import difflib
import io
import mimetypes
import re
from typing import Any, Final

from gateway.api import fields
from gateway.api.document import LongString
from gateway.api.fields import Problems, kind
from gateway.message.model import Attachment

MAX_FILENAME_CHARACTERS: Final = 255
DEFAULT_TYPE: Final = "application/octet-stream"

_NAMES: Final = ("filename", "content", "content_type", "content_id", "disposition")
_FIELDS: Final = {**{name: name for name in _NAMES}, "type": "content_type", "encoding": "encoding"}
_LATER: Final = frozenset(("attachment_id", "path", "url"))
_DISPOSITIONS: Final = ("attachment", "inline")
_TYPE: Final = re.compile(  # RFC 6838, 4.2
    r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}"
    r'(?: *; *charset=(?:[A-Za-z0-9_.:+-]{1,64}|"[A-Za-z0-9_.:+-]{1,64}"))?',
    re.IGNORECASE,
)
_CONTENT_ID: Final = re.compile(r"[!-;=?-~]{1,255}")  # visible ASCII without angle brackets
_TYPES: Final = mimetypes.MimeTypes()  # the table that comes with Python: the same on every machine

_STEP_BYTES: Final = 48 * 1024  # a multiple of 4: base64's unit
_ESCAPE_REACH: Final = 6  # length of \u002B: a step must not end inside one
_LINE_BREAKS: Final = b"\r\n"
# How JSON writers escape what may stand in base64: PHP the slash, .NET the plus sign, all of them newlines.
_ESCAPES: Final = (
    (b"\\/", b"/"),
    (b"\\r", b""),
    (b"\\n", b""),
    (b"\\u002B", b"+"),
    (b"\\u002b", b"+"),
    (b"\\u003D", b"="),
    (b"\\u003d", b"="),
    (b"\\u002F", b"/"),
    (b"\\u002f", b"/"),
)


def read_all(value: Any, path: str, problems: Problems, *, limit: int) -> tuple[Attachment, ...]:
    """The field `attachments`."""
    if not isinstance(value, list):
        problems.add(path, f"must be a list of objects, got {kind(value)}")
        return ()
    if len(value) > limit:
        problems.add(path, f"has {len(value)} entries; at most {limit} are taken", "validation_error")
        return ()
    found = (read(item, f"{path}[{index}]", problems) for index, item in enumerate(value))
    return tuple(item for item in found if item is not None)


def read(value: Any, path: str, problems: Problems) -> Attachment | None:
    """One attachment. `content_id` makes it inline unless `disposition` says otherwise."""
    if not isinstance(value, dict):
        problems.add(path, f"must be an object with filename and content, got {kind(value)}")
        return None
    given = _given(value, path, problems)
    filename = _filename(given.get("filename"), f"{path}.filename", problems)
    content = _content(given.get("content"), f"{path}.content", problems)
    content_type = _content_type(given, filename or "", path, problems)
    content_id = _content_id(given.get("content_id"), f"{path}.content_id", problems)
    disposition = _disposition(given, content_id, path, problems)
    if given.get("encoding", "base64") != "base64":
        problems.add(f"{path}.encoding", "must be base64", "not_supported")
    if filename is None or content is None:
        return None
    return Attachment(filename, content, content_type, content_id, disposition)


def _given(value: dict[str, Any], path: str, problems: Problems) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, item in value.items():
        if name in _FIELDS:
            if fields.absent(item):
                continue
            if _FIELDS[name] in given:
                problems.add(f"{path}.{name}", "content_type and type mean the same: give one of them")
            given[_FIELDS[name]] = item
        elif name in _LATER:
            problems.add(f"{path}.{name}", "is not available in this version: give content", "not_supported")
        elif not problems.full:
            near = difflib.get_close_matches(name[:40], _FIELDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.add(f"{path}.{fields.shown(name)}", f"is not a known field{hint}")
    return given


def _filename(value: Any, path: str, problems: Problems) -> str | None:
    if value is None:
        problems.add(path, "is required", "missing_parameter")
        return None
    return fields.line(value, path, problems, limit=MAX_FILENAME_CHARACTERS)


def _content(value: Any, path: str, problems: Problems) -> bytes | None:
    if value is None:
        problems.add(path, "is required", "missing_parameter")
        return None
    if not isinstance(value, (str, LongString)):
        problems.add(path, f"must be a string of base64, got {kind(value)}")
        return None
    content = decode(value)
    if content is None:
        problems.add(path, "is not valid base64 (RFC 4648, 4)")
    return content


def _content_type(given: dict[str, Any], filename: str, path: str, problems: Problems) -> str:
    value = given.get("content_type")
    if value is None:
        return _TYPES.guess_type(filename, strict=True)[0] or DEFAULT_TYPE
    text = fields.line(value, f"{path}.content_type", problems, limit=MAX_FILENAME_CHARACTERS)
    if text is not None and _TYPE.fullmatch(text) is None:
        problems.add(
            f"{path}.content_type",
            "must be type/subtype, with charset as the only parameter",
            "validation_error",
        )
    return text or DEFAULT_TYPE


def _content_id(value: Any, path: str, problems: Problems) -> str | None:
    if value is None:
        return None
    text = fields.line(value, path, problems, limit=MAX_FILENAME_CHARACTERS)
    if text is None:
        return None
    bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    if _CONTENT_ID.fullmatch(bare) is None:
        problems.add(path, "must be visible ASCII without spaces and angle brackets", "validation_error")
        return None
    return bare


def _disposition(given: dict[str, Any], content_id: str | None, path: str, problems: Problems) -> str:
    value = given.get("disposition")
    if value is None:
        return "inline" if content_id is not None else "attachment"
    if value not in _DISPOSITIONS:
        problems.add(f"{path}.disposition", "must be attachment or inline")
        return "attachment"
    return str(value)


def decode(content: str | LongString) -> bytes | None:
    """The bytes that `content` stands for; None where it is not base64."""
    try:
        return _decode_short(content) if isinstance(content, str) else _decode_long(content.raw)
    except ValueError:  # binascii.Error is one, and so is a character above 127
        return None


def _decode_short(content: str) -> bytes:
    if "\n" in content or "\r" in content:
        content = content.replace("\r", "").replace("\n", "")
    if len(content) % 4 or content.endswith("==="):  # Python's own strict mode lets padding too many pass
        raise ValueError("padding")
    return binascii.a2b_base64(content, strict_mode=True)


def _decode_long(raw: memoryview) -> bytes:
    decoded = io.BytesIO()  # grows in place and gives its buffer away: no second copy of 35 MB
    carry = b""
    at = 0
    while at < len(raw):
        step = _step(raw, at)
        at += len(step)
        clean = carry + _clean(step)
        if carry.endswith(b"=") and clean != carry:
            raise ValueError("padding inside")
        whole = len(clean) - len(clean) % 4
        if b"=" in clean[:whole].rstrip(b"="):
            raise ValueError("padding inside")
        # What ends in padding is kept back: it is right only at the very end.
        keep = whole - 4 if clean[:whole].endswith(b"=") else whole
        decoded.write(binascii.a2b_base64(clean[:keep], strict_mode=True))
        carry = clean[keep:]
    if carry:
        decoded.write(binascii.a2b_base64(carry, strict_mode=True))
    return decoded.getvalue()


def _step(raw: memoryview, at: int) -> bytes:
    """The next bytes to take, never ending inside an escape."""
    step = bytes(raw[at : at + _STEP_BYTES])
    if at + len(step) < len(raw):
        escape = step.rfind(b"\\", len(step) - _ESCAPE_REACH)
        if escape > 0:
            step = step[:escape]
    return step


def _clean(step: bytes) -> bytes:
    if b"\\" in step:
        for escape, meaning in _ESCAPES:
            step = step.replace(escape, meaning)
    return step.translate(None, _LINE_BREAKS)
