"""What SMTP mail says to the gateway in header fields: tags, metadata, times, a key, tracking, unsubscribing. The API's
bounds hold."""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.errors import Reason, Refused
from gateway.message import schedule
from gateway.message.model import TRACK_CLICKS, TRACK_OPENS, TRACK_TEXT
from gateway.message.schedule import Start

MAX_TAGS: Final = 50
MAX_TAG_CHARACTERS: Final = 128
MAX_METADATA_BYTES: Final = 16 * 1024
SAFE_INTEGER: Final = 2**63  # what fits 64 bits; others do not survive other people's JSON (RFC 7493, 2.2)
TRACKS: Final = {"opens": TRACK_OPENS, "clicks": TRACK_CLICKS, "text": TRACK_TEXT}
ALL_MAIL: Final = "*"  # what one unsubscribes from, where it is no tag
_IDEMPOTENCY_KEY: Final = re.compile("[ -~]{1,255}")


def tags(given: Sequence[str], offered: str = "") -> str:
    """JSON of the X-Gateway-Tag fields, each once. `offered`: what `unsubscribe` gave. Raises Refused."""
    unique = tuple(dict.fromkeys(given))
    if len(unique) > MAX_TAGS or any(len(tag) > MAX_TAG_CHARACTERS for tag in unique):
        raise Refused(
            Reason.MALFORMED_MESSAGE,
            f"X-Gateway-Tag: at most {MAX_TAGS} tags of at most {MAX_TAG_CHARACTERS} characters.",
        )
    return msgspec.json.encode(with_offered(unique, offered)).decode()


def with_offered(given: tuple[str, ...], offered: str) -> tuple[str, ...]:
    """Tags, and the one that a recipient can unsubscribe from: of mail without it nothing would be held back."""
    return given if not offered or offered == ALL_MAIL or offered in given else (*given, offered)


def track(text: str) -> int:
    """X-Gateway-Track: `opens, clicks, text` or some of them, or `none`; a sum of TRACK_…. Raises Refused."""
    words = [word.strip().lower() for word in text.split(",")]
    if words == ["none"]:
        return 0
    if len(set(words)) < len(words) or not TRACKS.keys() >= set(words):
        raise Refused(Reason.MALFORMED_MESSAGE, "X-Gateway-Track: one or more of opens, clicks and text, or none.")
    if "text" in words and "clicks" not in words:
        raise Refused(Reason.MALFORMED_MESSAGE, "X-Gateway-Track: text is nothing without clicks.")
    return sum(TRACKS[word] for word in words)


def unsubscribe(text: str) -> str:
    """X-Gateway-Unsubscribe: ALL_MAIL of `all`, else the tag. Raises Refused."""
    if text.lower() == "all":
        return ALL_MAIL
    if not text or text == ALL_MAIL or len(text) > MAX_TAG_CHARACTERS:
        raise Refused(
            Reason.MALFORMED_MESSAGE,
            f"X-Gateway-Unsubscribe: all, or a tag of at most {MAX_TAG_CHARACTERS} characters.",
        )
    return text


def metadata(text: str) -> str:
    """Canonical JSON of X-Gateway-Metadata: an object of plain values, as in the API. Raises Refused."""
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        decoded = None
    if not isinstance(decoded, dict) or not all(_is_plain(one) for pair in decoded.items() for one in pair):
        text = "X-Gateway-Metadata must be a JSON object of strings without NUL, 64-bit numbers, booleans and null."
        raise Refused(Reason.MALFORMED_MESSAGE, text)
    encoded = msgspec.json.encode(decoded, order="sorted")
    if len(encoded) > MAX_METADATA_BYTES:
        raise Refused(Reason.MALFORMED_MESSAGE, f"X-Gateway-Metadata: at most {MAX_METADATA_BYTES} bytes of JSON.")
    return encoded.decode()


def _is_plain(value: Any) -> bool:
    match value:
        case str():
            return "\x00" not in value  # no SQL text can hold it
        case int():
            return -SAFE_INTEGER <= value < SAFE_INTEGER
        case _:
            return not isinstance(value, (dict, list))


def start(text: str) -> Start:
    """X-Gateway-Send-At. Raises Refused."""
    try:
        return schedule.start(text)
    except ValueError as error:
        raise Refused(Reason.MALFORMED_MESSAGE, f"X-Gateway-Send-At: {error}.") from error


def ttl(text: str) -> float:
    """X-Gateway-TTL, in seconds. Raises Refused."""
    try:
        return schedule.ttl(text)
    except ValueError as error:
        raise Refused(Reason.MALFORMED_MESSAGE, f"X-Gateway-TTL: {error}.") from error


def check_idempotency_key(text: str) -> None:
    """Raises Refused."""
    if not _IDEMPOTENCY_KEY.fullmatch(text):
        raise Refused(Reason.MALFORMED_MESSAGE, "Idempotency-Key must be 1 to 255 printable ASCII characters.")
