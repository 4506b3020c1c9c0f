"""Foreign text inside one word of SMTP: xtext (RFC 3461, 4), and the forms of an international address (RFC 6533, 3).

Guarantees: pure, linear time; what is decoded holds no control character, so it may stand in a header field; encoding
and decoding again gives the same text. It does not ask whether an address is one: that of ORCPT need not be
(RFC 3461, 4.2).
"""

import re
from typing import Final

MAX_ORCPT: Final = 500  # characters, RFC 3461 4.2
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]++|\+[0-9A-F]{2})*+")
_HEX: Final = re.compile(r"\+([0-9A-F]{2})")
_XCHARS: Final = re.compile(r"[!-*,-<>-~]*+")
_NO_XCHAR: Final = re.compile(rb"[^!-*,-<>-~]")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TYPE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")  # an atom
_UTF_8: Final = "utf-8"
# RFC 6533, 3: every code point has one form; controls are left out, because no address has them.
_POINT: Final = (
    r"\\x\{(20|2B|3D|5C|[89A-F][0-9A-F]|[1-9A-F][0-9A-F]{2}|[1-9A-CEF][0-9A-F]{3}|D[0-7][0-9A-F]{2}"
    r"|[1-9A-F][0-9A-F]{4}|10[0-9A-F]{4})\}"
)
_EMBEDDED: Final = re.compile(_POINT)
_UNITEXT: Final = re.compile(rf"(?:[!-*,-<>-\[\]-~\x80-\U0010ffff]++|{_POINT})*+")
_NO_QCHAR: Final = re.compile(r"[^!-*,-<>-\[\]-~]")


def encode(text: str) -> str:
    """Text as xtext: pure printable ASCII without a space; what is beyond ASCII goes as UTF-8."""
    if _XCHARS.fullmatch(text) is not None:
        return text  # nearly every address
    return _NO_XCHAR.sub(lambda found: b"+%02X" % found[0][0], text.encode()).decode("ascii")


def decode(text: str) -> str:
    """What xtext stands for. ValueError where it is none, or stands for a control character or for no UTF-8."""
    if _XTEXT.fullmatch(text) is None:
        raise ValueError("this is no xtext")
    if "+" not in text:
        return text
    raw = _HEX.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1")
    return _harmless(raw.decode())


def encode_address(address: str) -> str:
    """An international address in ASCII alone: `utf-8-addr-xtext` of RFC 6533, without its `utf-8;`."""
    return _NO_QCHAR.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", address)


def decode_address(text: str) -> str:
    """What `utf-8-addr-xtext` or `utf-8-addr-unitext` stands for. ValueError where it is neither."""
    if _UNITEXT.fullmatch(text) is None:
        raise ValueError("this is no utf-8-addr-xtext")
    return _harmless(_EMBEDDED.sub(lambda found: chr(int(found[1], 16)), text))


def original_recipient(orcpt: str) -> tuple[str, str]:
    """The type, in lower case (`rfc822`, `utf-8`), and the address of an ORCPT value `type;address`. ValueError."""
    kind, semicolon, coded = orcpt.partition(";")
    if not semicolon or not coded or len(orcpt) > MAX_ORCPT or _TYPE.fullmatch(kind) is None:
        raise ValueError("an original recipient is type;address")
    kind = kind.lower()
    return kind, (decode_address if kind == _UTF_8 else decode)(coded)


def seven_bit(orcpt: str) -> str:
    """An ORCPT value for a host that does not announce SMTPUTF8 (RFC 6533, 3); one in ASCII stays.

    ValueError where there is none, or none of MAX_ORCPT characters.
    """
    if orcpt.isascii():
        return orcpt
    kind, address = original_recipient(orcpt)
    coded = f"{kind};{encode_address(address)}"
    if len(coded) > MAX_ORCPT:
        raise ValueError("the original recipient is too long in ASCII")
    return coded


def _harmless(text: str) -> str:
    if _CONTROL.search(text) is not None:
        raise ValueError("it stands for a control character")
    return text
