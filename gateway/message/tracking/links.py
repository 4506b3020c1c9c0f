"""Which links lead over us, and where they lead. Pure.

Guarantees: a target is an absolute http or https URL in printable ASCII without space, quotes or angle brackets, of at
most MAX_TARGET octets: what a browser would ask for, its host in A-labels, the rest percent-encoded (WHATWG URL). All
else is None and stays whole: other schemes, relative links and anchors, links with a name and password, links in which
the placeholder of some template was left, those by which one unsubscribes, and those that are spared.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import idna

MAX_TARGET: Final = 6000  # octets: as base64, 8,000 of the 8 KB that servers and proxies take of a request line
_BLANK: Final = "".join(map(chr, range(33)))
_LINE_BREAKS: Final = {9: None, 10: None, 13: None}  # a reader of URLs drops them
_URL: Final = re.compile(r"(https?)://([^/?#]+)(.*)", re.IGNORECASE | re.DOTALL)
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?", re.ASCII)
_UNSAFE: Final = re.compile(r"[^!#-;=?-~]+")
# Others fill these in behind us, so a link that holds one says nothing yet: Mustache and Jinja, ERB, Mailchimp,
# Salesforce, shells and JavaScript, Marketo and old mail merge.
_LEFTOVERS: Final = re.compile(r"\{\{|\}\}|\{%|%\}|<%|%>|\*\||\|\*|%%|\$\{|\[\[|\]\]")
# Most links: nothing in them is to be changed or asked about.
_PLAIN: Final = re.compile(
    r"https?://[A-Za-z0-9._-]++(?::[0-9]{0,5})?(?:[/?#][!#&-;=?-Z_a-z~]*+(?:%(?!%)[!#&-;=?-Z_a-z~]*+)*+)?", re.ASCII
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")  # and what a browser takes for a slash and others do not


def target(value: str) -> str | None:
    """Where a link leads, by the value of its attribute with character references resolved; None: it stays as it is."""
    lower = value.lower()
    if "unsubscribe" in lower or "opt-out" in lower or "optout" in lower:
        return None
    if _PLAIN.fullmatch(value) and len(value) <= MAX_TARGET:
        return value
    url = value.strip(_BLANK).translate(_LINE_BREAKS)
    found = _URL.fullmatch(url)
    if found is None or len(url) > MAX_TARGET or _LEFTOVERS.search(url) or _CONTROL.search(url):
        return None
    host = _ascii_host(found[2])
    if host is None:
        return None
    made = f"{found[1].lower()}://{host}{_UNSAFE.sub(_percent, found[3])}"
    return made if len(made) <= MAX_TARGET else None


def spared(list_unsubscribe: Iterable[str]) -> frozenset[str]:
    """The targets of URLs that must work without us."""
    return frozenset([url for value in list_unsubscribe if (url := target(value)) is not None])


def _percent(found: re.Match[str]) -> str:
    return quote(found[0].encode("utf-8", "replace"), safe="")


def _ascii_host(host: str) -> str | None:
    if _HOST.fullmatch(host):
        return host
    name, colon, port = host.partition(":")
    if name.isascii() or not (port.isdecimal() and port.isascii() if colon else True):
        return None
    try:
        return idna.encode(name, uts46=True).decode() + colon + port
    except idna.IDNAError:
        return None
