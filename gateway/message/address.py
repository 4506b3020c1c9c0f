"""Addresses: of the envelope and of a request, and the patterns that allow senders.

Guarantees: linear time, no recursion; whatever is returned is `local@domain` in one normal form (domain a
lower-case A-label or an address literal, local part unquoted where it can be) without any control character.
Rules are those of RFC 5321, 5322, 6531 and IDNA 2008. It does not ask whether a domain or mailbox exists.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import idna

from gateway.message.model import Mailbox

MAX_LOCAL: Final = 64  # octets, RFC 5321 4.5.3.1.1
MAX_ADDRESS: Final = 254  # octets, RFC 5321 4.5.3.1.3: a path is 256 with its angle brackets
_MAX_TEXT: Final = 2048  # characters looked at before anything else: quoting and mapping may still shorten them
_MAX_DOMAIN: Final = 255

_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_UTF8_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# What nearly every address is: one match decides.
_PLAIN: Final = re.compile(
    rf"({_ATEXT}++(?:\.{_ATEXT}++)*+)@((?:{_LABEL}\.)*[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?)"
)
_DOT_ATOM: Final = re.compile(rf"{_UTF8_ATEXT}++(?:\.{_UTF8_ATEXT}++)*+")  # RFC 6531, 3.3
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HEADER_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")


class AddressError(ValueError):
    """Not an address that can be used; the text says why, in words for the person who wrote it."""


class UnqualifiedError(AddressError):
    """A local part without a domain (`root`): the caller may know which domain is meant."""


def parse_path(text: str) -> str:
    """An envelope address `local@domain` (no angle brackets) in normal form.

    Raises AddressError, and UnqualifiedError where there is no domain.
    """
    match = _PLAIN.fullmatch(text)
    if match is None or "--" in (domain := match[2]):
        return _parse_slowly(text)
    if len(text) > MAX_ADDRESS or match.end(1) > MAX_LOCAL:
        raise _too_long(match[1], text)
    return text if domain.islower() else f"{match[1]}@{domain.lower()}"


def parse_domain(text: str) -> str:
    """A domain in normal form: lower-case A-labels, or an address literal with its brackets.

    Raises AddressError.
    """
    if text.startswith("["):
        return _literal(text)
    if not text or len(text) > _MAX_DOMAIN:
        raise AddressError("the domain is empty" if not text else "the domain is longer than 255 characters")
    if text.endswith("."):
        raise AddressError("the domain ends with a dot")
    if not text.isascii() or "xn--" in text.lower():
        try:
            text = _a_labels(text)
        except idna.IDNAError as error:
            raise AddressError(f"the domain {_show(text)} is not valid: {_show(str(error))}") from None
    if _DOMAIN.fullmatch(text) is None:
        raise AddressError(f"the domain {_show(text)} is not valid: labels of 1 to 63 letters, digits and hyphens")
    if text.rpartition(".")[2].isdigit():
        raise AddressError(f"the domain {_show(text)} is not a name; an IP address is written [192.0.2.1]")
    return text.lower()


@lru_cache(maxsize=2048)  # the same addresses are read more than once on their way, and this takes up to 0.2 ms
def _a_labels(domain: str) -> str:
    return idna.encode(domain, uts46=True).decode("ascii")


def domain_of(address: str) -> str:
    """The domain of an address in normal form; "" where it has none."""
    return address.rpartition("@")[2] if "@" in address else ""


def _parse_slowly(text: str) -> str:
    if not text:
        raise AddressError("the address is empty")
    if len(text) > _MAX_TEXT:
        raise AddressError(f"the address is longer than {MAX_ADDRESS} octets")
    if (control := _CONTROL.search(text)) is not None:
        raise AddressError(f"the address contains a control character (U+{ord(control[0]):04X})")
    if text.startswith("@"):
        raise AddressError("source routes are not accepted: write local@domain")
    local, domain = _split(text)
    normal = f"{_normal_local(local)}@{parse_domain(domain)}"
    normal_local = normal.rpartition("@")[0]
    if len(normal_local.encode()) > MAX_LOCAL or len(normal.encode()) > MAX_ADDRESS:
        raise _too_long(normal_local, normal)
    return normal


def _split(text: str) -> tuple[str, str]:
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if quoted is None:
            raise AddressError("the address has an unclosed quote")
        local, rest = quoted[0], text[quoted.end() :]
        if rest and not rest.startswith("@"):
            raise AddressError("after a quoted local part there must be an @")
        at, domain = rest[:1], rest[1:]
    else:
        local, at, domain = text.partition("@")
    if not at:
        raise UnqualifiedError(f"{_show(text)} has no domain: write local@domain")
    return local, domain


def _normal_local(local: str) -> str:
    if _DOT_ATOM.fullmatch(local) is not None:
        return local
    if not local.startswith('"'):
        if any(character in local for character in "<> ,;"):
            raise AddressError(f"{_show(local)} is not a local part: one bare address is expected here")
        raise AddressError(f"the local part {_show(local)} is not valid; put unusual characters in double quotes")
    content = re.sub(r"\\(.)", r"\1", local[1:-1])
    # RFC 5321, 4.1.2: a sender should not quote what needs no quotes.
    return content if _DOT_ATOM.fullmatch(content) is not None else _quote(content)


def _quote(content: str) -> str:
    escaped = content.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _literal(text: str) -> str:
    # RFC 5321, 4.1.3. General address literals have no registered tag and are refused.
    inside = text[1:-1] if text.endswith("]") else ""
    try:
        if inside[:5].lower() == "ipv6:" and "%" not in inside:
            return f"[IPv6:{IPv6Address(inside[5:])}]"
        return f"[{IPv4Address(inside)}]"
    except AddressValueError:
        raise AddressError(
            f"{_show(text)} is not an address literal; write [192.0.2.1] or [IPv6:2001:db8::1]"
        ) from None


def _too_long(local: str, address: str) -> AddressError:
    if len(local.encode()) > MAX_LOCAL:
        return AddressError(f"the part before the @ is longer than {MAX_LOCAL} octets")
    return AddressError(f"the address is longer than {MAX_ADDRESS} octets ({len(address.encode())})")


def _show(text: str) -> str:
    """Foreign text in an error: short, one line, never a control character."""
    shown = text.encode("ascii", "backslashreplace").decode() if not text.isprintable() else text
    return repr(shown if len(shown) <= 80 else shown[:77] + "...")


def parse_mailbox(text: str) -> Mailbox:
    """One mailbox as people write it: `a@b`, `Name <a@b>`, `"Name, Quoted" <a@b>`. Raises AddressError.

    The name is taken literally (encoded-words are not decoded); an unquoted one may hold all but `<>",;`.
    """
    text = text.strip(" \t")
    if not text.endswith(">"):
        return Mailbox("", parse_path(text))
    name, bracket, address = text[:-1].rpartition("<")
    if not bracket:
        raise AddressError("there is a > without a <")
    return Mailbox(_display_name(name.strip(" \t")), parse_path(address.strip(" \t")))


def _display_name(name: str) -> str:
    name = name.replace("\t", " ")
    if (control := _HEADER_CONTROL.search(name)) is not None:
        raise AddressError(f"the name contains a control character (U+{ord(control[0]):04X})")
    if (quoted := _QUOTED.fullmatch(name)) is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1])
    if any(character in name for character in '<>",;'):
        raise AddressError(f"the name {_show(name)} must be put in double quotes, and only one address given")
    return name


# Patterns of allowed senders


@dataclass(frozen=True, slots=True)
class _Pattern:
    """`local` None: any. `domain` None: any; with `below`, only names under it."""

    local: str | None
    domain: str | None
    below: bool


def check_pattern(text: str) -> str:
    """A pattern of allowed senders, as given: `a@b`, `*@b`, `*@*.b`, `*`. Else AddressError."""
    _pattern(text)
    return text


def matches(pattern: str, address: str) -> bool:
    """Whether an address in normal form is allowed by a pattern; a malformed pattern matches nothing.

    `*@*.example.com` means every name below example.com, not itself. Letters of ASCII are compared without
    case, in the local part too. Text that is not an address (no @) is matched by `*` only.
    """
    try:
        wanted = _pattern(pattern)
    except AddressError:
        return False
    if wanted.domain is None:
        return True
    local, at, domain = address.rpartition("@")
    if not at or (wanted.local is not None and wanted.local != _fold(local)):
        return False
    domain = domain.lower()
    return domain.endswith(wanted.domain) if wanted.below else domain == wanted.domain


@lru_cache(maxsize=1024)
def _pattern(text: str) -> _Pattern:
    if text == "*":
        return _Pattern(None, None, below=False)
    if text.startswith("*@*."):
        return _Pattern(None, "." + parse_domain(text[4:]).lower(), below=True)
    if text.startswith("*@"):
        return _Pattern(None, parse_domain(text[2:]).lower(), below=False)
    local, _, domain = parse_path(text).rpartition("@")
    if "*" in local:
        raise AddressError(f"{_show(text)}: a * may only stand for the whole local part or leading labels")
    return _Pattern(_fold(local), domain.lower(), below=False)


def _fold(local: str) -> str:
    # Unicode's lower() makes one letter of different ones (KELVIN SIGN and k): only ASCII is folded.
    return local.lower() if local.isascii() else local
