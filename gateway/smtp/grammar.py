"""The arguments of MAIL and RCPT (RFC 5321, 4.1.2; RFC 1870, 3461, 4954, 6152, 6531, 6533, 8689).

Guarantees: linear time; addresses come out in the normal form of `message.address`, local parts alone (`root`) too;
stray spaces round the path are taken, anything else that the grammar does not know is refused with the reply that says
so. It does not ask who may use an address, nor what the domain of `root` is, nor whether there is TLS.
"""

import re
from typing import Final, NamedTuple

from gateway.errors import GatewayError
from gateway.message import notify, xtext
from gateway.message.address import AddressError, UnqualifiedError, parse_path
from gateway.smtp import replies

# A path in angle brackets, with quoted strings that may hold any of them; then parameters.
_PATH: Final = r' *<([^"<>]*+(?:"(?:[^"\\]|\\.)*+"[^"<>]*+)*+)>(?: +([^ ].*))?'
_FROM: Final = re.compile("(?i:FROM):" + _PATH)
_TO: Final = re.compile("(?i:TO):" + _PATH)
_MAX_SIZE_DIGITS: Final = 20  # RFC 1870, 3
_ANY_DOMAIN: Final = "@x"
_MAX_ENVID: Final = 100  # characters, RFC 3461 4.4
_NOTIFY: Final = {"SUCCESS": notify.SUCCESS, "FAILURE": notify.FAILURE, "DELAY": notify.DELAY}


class BadCommand(GatewayError):
    """A command whose argument is not understood; `reply` is the line with its CRLF."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply.decode("ascii").rstrip())
        self.reply = reply


class Unusable(BadCommand):
    """What is said of a message and cannot be used: that is no sign of a broken client."""


class BadAddress(Unusable):
    """An address that cannot be used."""


class Mail(NamedTuple):
    """MAIL FROM. `address` is "" for the null sender, and may have no domain; `size` is what was declared, else 0;
    `ret` is FULL or HDRS, `envid` xtext as it came, each "" where it was not said."""

    address: str
    size: int = 0
    eight_bit: bool = False
    utf8: bool = False
    ret: str = ""
    envid: str = ""
    require_tls: bool = False


class Rcpt(NamedTuple):
    """RCPT TO. `address` may have no domain; `notify` is a sum of message/notify.py with ASKED, None where it was not
    said; `orcpt` is as it came, else ""."""

    address: str
    notify: int | None = None
    orcpt: str = ""


def parse_nothing(argument: str) -> None:
    """Of a command without an argument. Raises BadCommand."""
    if argument:
        raise BadCommand(replies.NO_ARGUMENT)


def parse_mail(argument: str) -> Mail:
    """`FROM:<a@b> SIZE=1 BODY=8BITMIME SMTPUTF8 AUTH=<> RET=HDRS ENVID=x REQUIRETLS`. Raises BadCommand."""
    match = _FROM.fullmatch(argument)
    if match is None:
        raise _malformed(argument, "FROM")
    path, parameters = match.groups()
    if parameters is None:
        return Mail(_address(path, utf8=False) if path else "")
    given = _parameters(parameters)
    size = _size(given.pop("SIZE", "0"))
    eight_bit = _body(given.pop("BODY", "7BIT"))
    utf8 = _flag(given, "SMTPUTF8")  # RFC 6531, 3.4
    given.pop("AUTH", None)  # RFC 4954, 5: who vouches for it means nothing here
    address = _address(path, utf8=utf8) if path else ""
    if not given:
        return Mail(address, size, eight_bit, utf8)
    ret, envid = _ret(given.pop("RET", None)), _envid(given.pop("ENVID", None))
    require_tls = _flag(given, "REQUIRETLS")  # RFC 8689, 2
    if given:
        raise BadCommand(replies.UNKNOWN_PARAMETER)
    return Mail(address, size, eight_bit, utf8, ret, envid, require_tls)


def parse_rcpt(argument: str, *, utf8: bool) -> Rcpt:
    """`TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;a@b`. `utf8`: MAIL said SMTPUTF8. Raises BadCommand."""
    match = _TO.fullmatch(argument)
    if match is None:
        raise _malformed(argument, "TO")
    path, parameters = match.groups()
    if parameters is None:
        return Rcpt(_address(path, utf8=utf8))
    given = _parameters(parameters)
    told, orcpt = _notify(given.pop("NOTIFY", None)), _orcpt(given.pop("ORCPT", None), utf8=utf8)
    if given:
        raise BadCommand(replies.UNKNOWN_PARAMETER)
    return Rcpt(_address(path, utf8=utf8), told, orcpt)


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


def _parameters(text: str) -> dict[str, str]:
    seen: dict[str, str] = {}
    for word in text.split(" "):
        name, _, value = word.partition("=")
        name = name.upper()
        if name in seen:
            raise Unusable(replies.PARAMETER_TWICE)
        if name:
            seen[name] = value
    return seen


def _flag(given: dict[str, str], name: str) -> bool:
    """Whether a parameter that takes no value was said."""
    value = given.pop(name, None)
    if value:
        raise BadCommand(replies.BAD_PARAMETER)
    return value is not None


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


def _ret(value: str | None) -> str:
    """What of a message comes back with a notification (RFC 3461, 4.3)."""
    if value is None:
        return ""
    if (word := value.upper()) not in {"FULL", "HDRS"}:
        raise Unusable(replies.BAD_RET)
    return word


def _envid(value: str | None) -> str:
    """The client's own name for the transaction (RFC 3461, 4.4)."""
    if value is None:
        return ""
    try:
        text = xtext.decode(value)
    except ValueError:
        text = ""
    if not 0 < len(text) <= _MAX_ENVID or not text.isascii():
        raise Unusable(replies.BAD_ENVID)
    return value


def _notify(value: str | None) -> int | None:
    """What the client wants to be told of a recipient (RFC 3461, 4.1)."""
    if value is None:
        return None
    words = value.upper().split(",")
    if words == ["NEVER"]:
        return notify.ASKED
    told = notify.ASKED
    for word in words:
        if word not in _NOTIFY:
            raise Unusable(replies.BAD_NOTIFY)
        told |= _NOTIFY[word]
    return told


def _orcpt(value: str | None, *, utf8: bool) -> str:
    """Whom the author wrote to (RFC 3461, 4.2). It need not be an address, so it is looked at for form only."""
    if value is None:
        return ""
    try:
        xtext.original_recipient(value)
    except ValueError:
        raise Unusable(replies.BAD_ORCPT) from None
    if not utf8 and not value.isascii():
        raise Unusable(replies.BAD_ORCPT)  # RFC 6533, 3
    return value
