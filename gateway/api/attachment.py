"""Attachments of the native API: `{filename, content, content_type, content_id, disposition}`.

Guarantees: pure; every fault is added to `Problems`. `content` is base64 (RFC 4648, 4) with padding,
strictly; line breaks (RFC 2045 writers make them) are the only thing ignored. A large one is decoded in
steps of about 0.1 ms, so that a thread doing it never holds the interpreter for long. It does not look into
the content.
"""

import binascii
import io
import mimetypes
import re
from typing import Any, Final

from gateway.api import fields
from gateway.api.document import LongString
from gateway.api.fields import Problems, kind
from gateway.api.table import Field, Table
from gateway.message.model import Attachment

MAX_FILENAME_CHARACTERS: Final = 255
DEFAULT_TYPE: Final = "application/octet-stream"

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
    given = TABLE.given(value, problems, f"{path}.")
    values = {name: one.field.read(one.value, one.path, problems) for name, one in given.items()}
    filename, content, content_id = values.get("filename"), values.get("content"), values.get("content_id")
    if filename is None or content is None:
        return None
    return Attachment(
        filename,
        content,
        values.get("content_type") or _TYPES.guess_type(filename, strict=True)[0] or DEFAULT_TYPE,
        content_id,
        values.get("disposition") or ("inline" if content_id is not None else "attachment"),
    )


def _filename(value: Any, path: str, problems: Problems) -> str | None:
    return fields.line(value, path, problems, limit=MAX_FILENAME_CHARACTERS)


def _content(value: Any, path: str, problems: Problems) -> bytes | None:
    if not isinstance(value, (str, LongString)):
        problems.add(path, f"must be a string of base64, got {kind(value)}")
        return None
    content = decode(value)
    if content is None:
        problems.add(path, "is not valid base64 (RFC 4648, 4)")
    return content


def _content_type(value: Any, path: str, problems: Problems) -> str | None:
    text = fields.line(value, path, problems, limit=MAX_FILENAME_CHARACTERS)
    if text is None or _TYPE.fullmatch(text) is not None:
        return text
    problems.add(path, "must be type/subtype, with charset as the only parameter", "validation_error")
    return None


def _content_id(value: Any, path: str, problems: Problems) -> str | None:
    text = fields.line(value, path, problems, limit=MAX_FILENAME_CHARACTERS)
    if text is None:
        return None
    bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    if _CONTENT_ID.fullmatch(bare) is None:
        problems.add(path, "must be visible ASCII without spaces and angle brackets", "validation_error")
        return None
    return bare


def _disposition(value: Any, path: str, problems: Problems) -> str | None:
    if value in _DISPOSITIONS:
        return str(value)
    problems.add(path, "must be attachment or inline")
    return None


def _encoding(value: Any, path: str, problems: Problems) -> None:
    if value != "base64":
        problems.add(path, "must be base64", "not_supported")


TABLE: Final = Table.of(
    (
        Field(
            "filename",
            _filename,
            "filename",
            {"type": "string", "minLength": 1, "maxLength": MAX_FILENAME_CHARACTERS, "examples": ["invoice.pdf"]},
            "What the file is called.",
            required=True,
        ),
        Field(
            "content",
            _content,
            "content",
            {"type": "string", "minLength": 1, "contentEncoding": "base64", "examples": ["SGVsbG8sIEFubi4="]},
            "The file in base64 with padding (RFC 4648, 4); line breaks are passed over.",
            required=True,
        ),
        Field(
            "content_type",
            _content_type,
            "content_type",
            {"type": "string", "maxLength": MAX_FILENAME_CHARACTERS, "examples": ["application/pdf"]},
            "`type/subtype`, with `charset` as the only parameter; else told from the file's name.",
            aliases=("type",),
        ),
        Field(
            "content_id",
            _content_id,
            "content_id",
            {"type": "string", "maxLength": MAX_FILENAME_CHARACTERS, "examples": ["logo"]},
            'Makes the file one that the HTML shows: `<img src="cid:logo">`.',
        ),
        Field(
            "disposition",
            _disposition,
            "disposition",
            {"type": "string", "enum": list(_DISPOSITIONS)},
            "`inline` where `content_id` is given, else `attachment`, unless it is said here.",
        ),
        Field("encoding", _encoding, "", {"type": "string", "const": "base64"}, "How `content` is written."),
    ),
    refused=dict.fromkeys(("attachment_id", "path", "url"), "is not available in this version: give content"),
)


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
