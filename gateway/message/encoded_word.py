"""Encoded-words (RFC 2047): how text beyond ASCII stands in a header field.

Guarantees: what `encode` writes is ASCII of `[!-~]` only, each word at most 75 characters and whole
characters in each; `decode` takes any foreign text in linear time, never raises and never yields a control
character or a lone surrogate. It does not fold lines.
"""

import binascii
import re
from typing import Final

from gateway.message import charset

MAX_LENGTH: Final = 75  # RFC 2047, 2: an encoded-word may not be more than 75 characters long
_FRAME: Final = len("=?utf-8?q??=")
MIN_LENGTH: Final = _FRAME + 12  # room for any one character, in either encoding
_SAFE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")  # RFC 2047, 5 (3)
_Q: Final = tuple(chr(b) if b in _SAFE else "_" if b == 0x20 else f"={b:02X}" for b in range(256))

_WORD: Final = re.compile(r"=\?([^?\s]{1,64})\?([bBqQ])\?([^?\s]*+)\?=")
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
_SPACE: Final = " \t\r\n"
_Q_ESCAPE: Final = re.compile(rb"=([0-9A-Fa-f]{2})")


def looks_encoded(text: str) -> bool:
    """Whether a reader would take a part of this plain text for an encoded-word, or for the beginning of one: then
    some (Go's) do not see the true one behind it."""
    return "=?" in text


def encode(text: str, first: int) -> list[str]:
    """The words that say `text`, in the shorter of the two encodings.

    `first` is how many characters the first word may have, from MIN_LENGTH to MAX_LENGTH; the others have
    MAX_LENGTH. Whitespace between words means nothing to a reader (RFC 2047, 6.2): they may be folded
    anywhere.
    """
    units = [character.encode("utf-8") for character in text]
    quoted = ["".join([_Q[byte] for byte in unit]) for unit in units]
    octets = sum(map(len, units))
    if sum(map(len, quoted)) <= -(-octets // 3) * 4:
        return _chunks(quoted, first)
    return _base64_chunks(units, first)


def _chunks(quoted: list[str], first: int) -> list[str]:
    words: list[str] = []
    chunk: list[str] = []
    size, limit = 0, first - _FRAME
    for unit in quoted:
        if size + len(unit) > limit:
            words.append(f"=?utf-8?q?{''.join(chunk)}?=")
            chunk, size, limit = [], 0, MAX_LENGTH - _FRAME
        chunk.append(unit)
        size += len(unit)
    words.append(f"=?utf-8?q?{''.join(chunk)}?=")
    return words


def _base64_chunks(units: list[bytes], first: int) -> list[str]:
    words: list[str] = []
    chunk, limit = bytearray(), (first - _FRAME) // 4 * 3
    for unit in units:
        if len(chunk) + len(unit) > limit:
            words.append(_base64_word(chunk))
            chunk, limit = bytearray(), (MAX_LENGTH - _FRAME) // 4 * 3
        chunk += unit
    words.append(_base64_word(chunk))
    return words


def _base64_word(data: bytearray) -> str:
    return f"=?utf-8?b?{binascii.b2a_base64(data, newline=False).decode()}?="


def decode(text: str) -> str:
    """Foreign text with its encoded-words decoded, on one line; what cannot be decoded stays as it is.

    Control characters and lone surrogates become spaces.
    """
    if "=?" in text:
        text = _decode_words(text)
    return clean(text)


def clean(text: str) -> str:
    """The text with every control character and lone surrogate replaced by a space."""
    return _UNSAFE.sub(" ", text)


def _decode_words(text: str) -> str:
    out: list[str] = []
    end = 0
    named, octets = "", bytearray()  # of the words so far: a character may be cut between two of them
    for match in _WORD.finditer(text):
        data = _octets(match[2], match[3])
        if data is None:
            continue
        gap = text[end : match.start()]
        if octets and match[1].lower() == named and not gap.strip(_SPACE):
            octets += data
        else:
            _flush(out, named, octets)
            # Whitespace between two words is not shown (RFC 2047, 6.2).
            out.append("" if end and not gap.strip(_SPACE) else gap)
            named, octets = match[1].lower(), bytearray(data)
        end = match.end()
    _flush(out, named, octets)
    out.append(text[end:])
    return "".join(out)


def _octets(encoding: str, payload: str) -> bytes | None:
    if not payload.isascii():
        return None
    if encoding in "qQ":
        plain = payload.replace("_", " ").encode("ascii")
        return _Q_ESCAPE.sub(lambda m: bytes((int(m[1], 16),)), plain)
    try:
        return binascii.a2b_base64(payload.rstrip("=") + "=" * (-len(payload.rstrip("=")) % 4))
    except binascii.Error:
        return None


def _flush(out: list[str], named: str, octets: bytearray) -> None:
    if not octets:
        return
    name = named.partition("*")[0]  # RFC 2231, 5: a language tag may follow
    codec = charset.codec(name) or "utf-8"
    try:
        out.append(octets.decode(codec, "replace"))
    except ValueError:
        out.append(octets.decode("utf-8", "replace"))
