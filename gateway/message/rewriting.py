"""The From and Sender fields of old clients put right: another address, or the domain that theirs lacks.

Guarantees: what comes out is one well-formed field with one address; a name that cannot be read for certain is left
out; nothing here raises on foreign bytes. It does not find the fields (fixup.py does), nor ask who may send as whom.
"""

import re
from collections.abc import Sequence
from typing import Final

from gateway.message import address, address_list, encoded_word, header
from gateway.message.address import AddressError
from gateway.message.model import Mailbox

Aliases = Sequence[tuple[str, str]]  # (local part in lower case, address)

_MAX_NAME: Final = 200  # characters kept of a name
_MAX_VALUE: Final = 2000  # octets of a value that are looked at for one
_MAX_REPLY_TO: Final = 20
# `"Name" <a@b>` or `Name <a@b>`, then what RFC 822 knew: `a@b (Name)`.
_NAMED: Final = re.compile(r'[ \t]*(?:"((?:[^"\\]|\\.)*+)"|([^"<>(),;:@]*+))[ \t]*<[^<>"]*>[ \t]*')
_COMMENTED: Final = re.compile(r'[ \t]*[^ \t"<>(),;:]++[ \t]*\(([^()\\]*)\)[ \t]*')


def field(name: str, value: bytes, sender: str) -> bytes:
    """The field `name` with the address `sender` (in normal form) and the name that stood in `value` (unfolded)."""
    try:
        return header.mailboxes(name, [(Mailbox(display_name(value), sender), name)])
    except header.HeaderError:  # a name that no field of ours can carry
        return header.mailboxes(name, [(Mailbox("", sender), name)])


def display_name(value: bytes) -> str:
    """The name of a field with one mailbox, for people; "" where there is none or it is not certain."""
    text = value[:_MAX_VALUE].decode("utf-8", "replace")
    if (named := _NAMED.fullmatch(text)) is not None:
        written = re.sub(r"\\(.)", r"\1", named[1]) if named[1] is not None else named[2]
    elif (commented := _COMMENTED.fullmatch(text)) is not None:
        written = commented[1]
    else:
        return ""
    name = encoded_word.decode(written.strip(" \t"))[:_MAX_NAME].strip()
    # A name with an address in it would show the one that was replaced, or another.
    return "" if "@" in name else name


def completed(value: bytes, domain: str | None, aliases: Aliases = ()) -> str | None:
    """The address of a field whose only one has no domain: that of the alias, whose name is compared without case,
    else with `domain`; None where there is nothing to complete, or nothing to complete it with."""
    try:
        found = address_list.header_addresses(value)
        if len(found) != 1 or "@" in found[0]:
            return None
        for name, target in aliases:
            if name == found[0].lower():
                return target
        return address.parse_path(f"{found[0]}@{domain}") if domain is not None else None
    except AddressError:
        return None


def reply_to(senders: Sequence[str], instead: str) -> bytes:
    """A Reply-To field with the addresses that another one stands for now; b"" where none can be answered.

    One without a dot in its domain (`root@localhost`) is known on its own machine only.
    """
    reachable = [sender for sender in senders if "." in address.domain_of(sender) and sender != instead]
    if not reachable:
        return b""
    try:
        return header.mailboxes("Reply-To", [(Mailbox("", sender), "Reply-To") for sender in reachable[:_MAX_REPLY_TO]])
    except header.HeaderError:
        return b""
