"""The arguments of MAIL and RCPT (RFC 5321, 4.1.2; RFC 1870, 4954, 6152, 6531).

Guarantees: linear time; addresses come out in the normal form of `message.address`, local parts alone (`root`) too;
stray spaces round the path are taken, anything else that the grammar does not know is refused with the reply that says
so. It does not ask who may use an address, nor what the domain of `root` is.
"""

import re
from typing import Final, NamedTuple

from gateway.errors import GatewayError
from gateway.message.address import AddressError, UnqualifiedError, parse_path
from gateway.smtp import replies

# A path in angle brackets, with quoted strings that may hold any of them; then parameters.
_PATH: Final = r' *<([^"<>]*+(?:"(?:[^"\\]|\\.)*+"[^"<>]*+)*+)>(?: +([^ ].*))?'
_FROM: Final = re.compile("(?i:FROM):" + _PATH)
_TO: Final = re.compile("(?i:TO):" + _PATH)
_MAX_SIZE_DIGITS: Final = 20  # RFC 1870, 3
_ANY_DOMAIN: Final = "@x"


class BadCommand(GatewayError):
    """A command whose argument is not understood; `reply` is the line with its CRLF."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply.decode("ascii").rstrip())
        self.reply = reply


class BadAddress(BadCommand):
    """An address that cannot be used: of the message, so it is no sign of a broken client."""


class Mail(NamedTuple):
    """MAIL FROM. `address` is "" for the null sender, and may have no domain; `size` is what was declared, else 0."""

    address: str
    size: int
    eight_bit: bool
    utf8: bool


def parse_mail(argument: str) -> Mail:
    """`FROM:<a@b> SIZE=1 BODY=8BITMIME SMTPUTF8 AUTH=<>`. Raises BadCommand, BadAddress."""
    match = _FROM.fullmatch(argument)
    if match is None:
        raise _malformed(argument, "FROM")
    path, parameters = match.groups()
    if parameters is None:
        return Mail(_address(path, utf8=False) if path else "", 0, eight_bit=False, utf8=False)
    size, eight_bit, utf8 = _mail_parameters(parameters)
    return Mail(_address(path, utf8=utf8) if path else "", size, eight_bit, utf8)


def parse_rcpt(argument: str, *, utf8: bool) -> str:
    """`TO:<a@b>`; the address, or a local part alone. `utf8`: MAIL said SMTPUTF8. Raises BadCommand, BadAddress."""
    match = _TO.fullmatch(argument)
    if match is None:
        raise _malformed(argument, "TO")
    path, parameters = match.groups()
    if parameters is not None:
        # RFC 5321, 4.1.1.11: no parameter of RCPT is announced.
        raise BadCommand(replies.UNKNOWN_PARAMETER)
    return _address(path, utf8=utf8)


def _address(path: str, *, utf8: bool) -> str:
    if not utf8 and not path.isascii():
        raise BadAddress(replies.NEEDS_SMTPUTF8)
    if path.startswith("@"):
        # RFC 5321, 4.1.1.3 and appendix C: a source route is taken and forgotten.
        path = path.partition(":")[2]
    try:
        try:
            return parse_path(path)
        except UnqualifiedError:
            return parse_path(path + _ANY_DOMAIN).removesuffix(_ANY_DOMAIN)
    except AddressError as error:
        raise BadAddress(replies.line(f"501 5.1.3 Bad address: {error}")) from None


def _malformed(argument: str, word: str) -> BadCommand:
    if argument[: len(word)].upper() != word:
        return BadCommand(replies.line(f"501 5.5.4 {word}:<address> must follow"))
    return BadAddress(replies.line(f"501 5.1.3 Bad address; write {word}:<name@domain>"))


def _mail_parameters(text: str) -> tuple[int, bool, bool]:
    seen: dict[str, str] = {}
    for word in text.split(" "):
        name, _, value = word.partition("=")
        name = name.upper()
        if name in seen:
            raise BadCommand(replies.BAD_PARAMETER)
        if name:
            seen[name] = value
    size = _size(seen.pop("SIZE", "0"))
    eight_bit = _body(seen.pop("BODY", "7BIT"))
    utf8 = seen.pop("SMTPUTF8", None)
    if utf8:
        raise BadCommand(replies.BAD_PARAMETER)  # RFC 6531, 3.4: it takes no value
    seen.pop("AUTH", None)  # RFC 4954, 5: who vouches for it means nothing here
    if seen:
        raise BadCommand(replies.UNKNOWN_PARAMETER)
    return size, eight_bit, utf8 is not None


def _size(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > _MAX_SIZE_DIGITS:
        raise BadCommand(replies.BAD_PARAMETER)
    return int(value)


def _body(value: str) -> bool:
    """Whether 8-bit content is announced (RFC 6152, 2)."""
    match value.upper():
        case "7BIT":
            return False
        case "8BITMIME":
            return True
        case _:
            raise BadCommand(replies.BAD_PARAMETER)
