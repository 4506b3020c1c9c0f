"""Header fields: the strict writer of the composer.

Guarantees: a field is ASCII (but for an address whose local part is not), folded only where a space stands (and
inside a URL of a List-* field that no line can hold), never longer than 998 octets a line, and holds no control
character: text that has one raises HeaderError with the path of the input at fault. An ASCII value stays literal;
other text becomes encoded-words (RFC 2047). It does not read mail.
"""

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from gateway.message import address, encoded_word
from gateway.message.model import Mailbox

MAX_LINE: Final = 998  # octets without CRLF, RFC 5322 2.1.1
_WISHED_LINE: Final = 76  # RFC 5322 wishes 78, RFC 2047 demands 76 of a line with an encoded-word
_MAX_NAME: Final = 76
_LITERAL_WORD: Final = 900  # octets; a longer word of free text is encoded, because nothing else can break it

_CONTROL: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
_NAME: Final = re.compile(r"(?!\.)[!-9;-~]+")  # RFC 5322, 2.2; no dot first: no header line needs stuffing
_TOKENS: Final = re.compile(r" *[^ ]+")
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_PLAIN_FILENAME: Final = re.compile(r"[\w!#$&'()+,.=@^`{}~-]+(?: [\w!#$&'()+,.=@^`{}~-]+)*", re.ASCII)
_UNQUOTABLE: Final = re.compile(r'[^ -~]|["\\%;]')
_MAX_PLAIN_FILENAME: Final = 60
_ATTRIBUTE_SAFE: Final = "!#$&+-.^_`|~"  # RFC 2231, 7: attribute-char beside letters and digits

# Fields that the gateway writes itself; a client may not set them.
RESERVED: Final = frozenset(
    {
        "bcc",
        "cc",
        "content-disposition",
        "content-id",
        "content-length",
        "content-transfer-encoding",
        "content-type",
        "date",
        "dkim-signature",
        "from",
        "idempotency-key",
        "message-id",
        "mime-version",
        "received",
        "reply-to",
        "return-path",
        "sender",
        "subject",
        "to",
    }
)
RESERVED_PREFIXES: Final = ("content-", "resent-", "x-gateway-")
# Fields that may stand once and, but for the phrase of List-Id, are never free text (RFC 5322 3.6, RFC 2369,
# RFC 2919, RFC 3834, RFC 8058).
SINGLETONS: Final = frozenset(
    {
        "auto-submitted",
        "in-reply-to",
        "list-archive",
        "list-help",
        "list-id",
        "list-owner",
        "list-post",
        "list-subscribe",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "precedence",
        "references",
    }
)
_FREE_SINGLETONS: Final = frozenset({"list-id"})
_URL_FIELDS: Final = frozenset(
    {"list-archive", "list-help", "list-owner", "list-post", "list-subscribe", "list-unsubscribe"}
)

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class HeaderError(ValueError):
    """Text that must not become a header field; `path` names the input: `subject`, `headers.X-Foo`."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path = path
        self.text = text


def reserved(name: str) -> bool:
    """Whether a client may not set this field because the gateway writes, removes or reads it."""
    lower = name.lower()
    return lower in RESERVED or lower.startswith(RESERVED_PREFIXES)


def format_date(moment: datetime) -> str:
    """A Date field's value (RFC 5322, 3.3) in UTC; independent of the locale. `moment` is aware."""
    t = moment.astimezone(UTC)
    return (
        f"{_DAYS[t.weekday()]}, {t.day:02d} {_MONTHS[t.month - 1]} {t.year:04d}"
        f" {t.hour:02d}:{t.minute:02d}:{t.second:02d} +0000"
    )


def check(text: str, path: str) -> str:
    """The text itself, or HeaderError where it has a control character or a lone surrogate."""
    if (found := _CONTROL.search(text)) is not None:
        code = ord(found[0])
        what = "a lone surrogate" if 0xD800 <= code <= 0xDFFF else f"a control character (U+{code:04X})"
        raise HeaderError(path, f"contains {what}")
    return text


def literal(name: str, value: str, path: str) -> bytes:
    """A field of our own making or of ASCII text: folded at its spaces, nothing else touched."""
    return _Folder(name, path).words(_TOKENS.findall(" " + check(value, path))).finish()


def _urls(name: str, value: str, path: str) -> bytes:
    """URLs in angle brackets. One that no line can hold is folded inside, where a reader passes over white space
    (RFC 2369, 2), by a tab: a reader of URLs drops tabs and may not drop spaces."""
    tokens: list[str] = []
    for token in _TOKENS.findall(" " + value):
        room = MAX_LINE if tokens else MAX_LINE - len(name) - 1
        if len(token) > room and token.lstrip(" ,").startswith("<"):
            tokens.append(token[:_LITERAL_WORD])
            rest = token[_LITERAL_WORD:]
            tokens += ["\t" + rest[i : i + _LITERAL_WORD] for i in range(0, len(rest), _LITERAL_WORD)]
        else:
            tokens.append(token)
    return _Folder(name, path).words(tokens).finish()


def text(name: str, value: str, path: str) -> bytes:
    """A field of free text (Subject). A tab counts as a space; spaces at either end mean nothing."""
    value = check(value.replace("\t", " "), path).strip(" ")
    folder = _Folder(name, path)
    tokens = _TOKENS.findall(" " + value) if value else []
    marked = [i for i, token in enumerate(tokens) if _must_encode(token)]
    if not marked:
        return folder.words(tokens).finish()
    first, last = marked[0], marked[-1] + 1
    folder.words(tokens[:first])
    folder.encoded("".join(tokens[first:last])[1:])
    return folder.words(tokens[last:]).finish()


def _must_encode(token: str) -> bool:
    return not token.isascii() or len(token) > _LITERAL_WORD or encoded_word.looks_encoded(token)


def client_fields(fields: Iterable[tuple[str, str]]) -> list[bytes]:
    """The fields a client asked for, in order; an empty value counts as absent.

    ASCII values stay literal, whatever they look like. Raises HeaderError with the path `headers.NAME`.
    """
    out = []
    seen: set[str] = set()
    for name, given in fields:
        path = f"headers.{_safe_name(name)}"
        if len(name) > _MAX_NAME or _NAME.fullmatch(name) is None:
            raise HeaderError(
                path, f"a field name is 1 to {_MAX_NAME} characters of ASCII without space or colon, no dot first"
            )
        lower = name.lower()
        if reserved(lower):
            raise HeaderError(path, "this field is written by the gateway and cannot be set")
        value = check(given.replace("\t", " "), path).strip(" ")
        if not value:
            continue
        if lower in SINGLETONS and lower in seen:
            raise HeaderError(path, "this field may be given only once")
        seen.add(lower)
        if lower in _URL_FIELDS and len(value) > _LITERAL_WORD and value.isascii():
            out.append(_urls(name, value, path))
        elif value.isascii():
            out.append(literal(name, value, path))
        elif lower in SINGLETONS and lower not in _FREE_SINGLETONS:
            raise HeaderError(path, "this field must be ASCII")
        else:
            out.append(text(name, value, path))
    return out


def _safe_name(name: str) -> str:
    return name if _NAME.fullmatch(name) and len(name) <= _MAX_NAME else ascii(name[:_MAX_NAME])


def mailboxes(name: str, boxes: Iterable[tuple[Mailbox, str]]) -> bytes:
    """A field of (mailbox, path of the input): From, To… The addresses are checked once more."""
    folder: _Folder | None = None
    for box, path in boxes:
        if folder is None:
            folder = _Folder(name, path)
        else:
            folder.comma()
        _add_mailbox(folder, box, path)
    assert folder is not None, "a field of addresses has at least one"
    return folder.finish()


def _add_mailbox(folder: "_Folder", box: Mailbox, path: str) -> None:
    try:
        normal = address.parse_path(box.address)
    except address.AddressError as error:
        raise HeaderError(path, str(error)) from None
    # Runs of spaces mean one space in a phrase (RFC 5322, 3.2.2).
    name = re.sub(" {2,}", " ", check(box.name.replace("\t", " "), path)).strip(" ")
    if not name:
        folder.words([" " + normal])
        return
    longest = max(map(len, name.split(" ")))
    if not name.isascii() or longest > _WISHED_LINE - 4 or encoded_word.looks_encoded(name):
        folder.encoded(name)
    elif _ATOMS.fullmatch(name) is not None:
        folder.words(_TOKENS.findall(" " + name))
    else:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        folder.words(_TOKENS.findall(f' "{escaped}"'))
    folder.words([f" <{normal}>"])


def parameters(name: str, value: str, params: Iterable[tuple[str, str]], path: str) -> bytes:
    """A structured field; value and parameters are written already (`charset=utf-8`)."""
    tokens = [" " + value, *(f" {key}={given}" for key, given in params)]
    return _Folder(name, path).words([token + ";" for token in tokens[:-1]] + tokens[-1:]).finish()


def filename_parameters(key: str, filename: str, path: str) -> list[tuple[str, str]]:
    """A file name as parameters: quoted where it is plain and short, else RFC 2231 and an ASCII fallback.

    The extended form comes first: a reader that takes the first of two (as Python's does) then has the true
    name.
    """
    check(filename, path)
    if len(filename) <= _MAX_PLAIN_FILENAME and _PLAIN_FILENAME.fullmatch(filename) and "=?" not in filename:
        return [(key, f'"{filename}"')]
    units = [quote(character, safe=_ATTRIBUTE_SAFE) for character in filename]
    return [*_extended(key, units), (key, f'"{fallback_filename(filename)}"')]


def _extended(key: str, units: list[str]) -> list[tuple[str, str]]:
    room = _WISHED_LINE - len(key) - len(" *00*=;")
    segments = ["utf-8''"]
    for unit in units:
        if len(segments[-1]) + len(unit) > room:
            segments.append("")
        segments[-1] += unit
    if len(segments) == 1:
        return [(f"{key}*", segments[0])]
    return [(f"{key}*{i}*", segment) for i, segment in enumerate(segments)]  # RFC 2231, 4.1


def fallback_filename(filename: str) -> str:
    """An ASCII name for readers without RFC 2231: accents dropped, the rest replaced, the extension kept."""
    plain = unicodedata.normalize("NFKD", filename)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"_{2,}", "_", _UNQUOTABLE.sub("_", plain).replace("=?", "_")).strip(" ")
    stem, dot, extension = plain.rpartition(".")
    if not dot or len(extension) > 10:
        stem, dot, extension = plain, "", ""
    return f"{stem[: _MAX_PLAIN_FILENAME - 11].strip(' ') or '_'}{dot}{extension}"


class _Folder:
    """One field in the making: tokens begin with their spaces, a line is broken only before a token."""

    __slots__ = ("_column", "_first", "_parts", "_path")

    def __init__(self, name: str, path: str) -> None:
        self._parts = [name.encode("ascii"), b":"]
        self._column = len(name) + 1
        self._first = True
        self._path = path

    def words(self, tokens: Iterable[str]) -> "_Folder":
        for token in tokens:
            self._add(token.encode("utf-8"))
        return self

    def encoded(self, value: str) -> None:
        """Text as encoded-words, the first filling up the line where that is worth it."""
        room = _WISHED_LINE - self._column - 1
        first = room if room >= encoded_word.MIN_LENGTH else encoded_word.MAX_LENGTH
        for word in encoded_word.encode(value, first):
            self._add(b" " + word.encode("ascii"), limit_first=_WISHED_LINE)

    def comma(self) -> None:
        self._parts.append(b",")
        self._column += 1

    def finish(self) -> bytes:
        return b"".join([*self._parts, b"\r\n"])

    def _add(self, token: bytes, limit_first: int = MAX_LINE) -> None:
        # Right after the name a line is not broken for beauty: some readers lose such a value.
        limit = limit_first if self._first else _WISHED_LINE
        if self._column + len(token) > limit:
            self._parts.append(b"\r\n")
            self._column = 0
        self._parts.append(token)
        self._column += len(token)
        self._first = False
        if self._column > MAX_LINE:
            raise HeaderError(self._path, f"a word of more than {MAX_LINE} octets cannot be folded")
