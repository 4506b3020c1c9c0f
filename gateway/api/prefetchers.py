"""Programs that fetch a pixel or follow a link without a person having done so, as gateway/data/prefetchers.toml has
them.

Guarantees: what is not known is taken for a person; who says nothing of itself cannot be known. It decides what is
counted, nothing else: a program is answered as a person is.
"""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from ipaddress import ip_address, ip_network
from typing import Any, Final

from gateway.config import Network

FILE: Final = "data/prefetchers.toml"
HEAD: Final = "HEAD"  # as a machine: whoever asks so sees nothing
MAX_AGENT_CHARACTERS: Final = 512  # of a User-Agent that are looked at, and kept
PREFETCH: Final = "prefetch"  # a browser ahead of its person
# What browsers say ahead of a click (Fetch, "Sec-Purpose"), and said before that was written down.
_PURPOSES: Final = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
_AHEAD: Final = ("prefetch", "preview", "prerender")
_KNOWN: Final = 4096  # clients whose answer is kept


@dataclass(frozen=True, slots=True)
class Prefetcher:
    """`agents` are words of a User-Agent in lower case, `exactly` whole ones. `shows`: it fetches images when a person
    opens the mail, so that an opening is the person's. `source` is where this is written."""

    name: str
    source: str
    agents: tuple[str, ...] = ()
    exactly: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    shows: bool = False


class Prefetchers:
    """Those of the file, in its order: the first that fits is it."""

    def __init__(self) -> None:
        text = resources.files("gateway").joinpath(FILE).read_text(encoding="utf-8")
        self.known = tuple(_read(row) for row in tomllib.loads(text)["prefetcher"])
        self._find = functools.lru_cache(maxsize=_KNOWN)(self._look)

    def machine(self, method: str, headers: Mapping[str, str], client: str, *, image: bool) -> str:
        """What fetched it, "" for a person. `image`: the pixel, not a link."""
        if method == HEAD:
            return HEAD
        for name in _PURPOSES:
            if headers.get(name, "").lower().startswith(_AHEAD):
                return PREFETCH
        found = self._find(agent(headers), client)
        return "" if found is None or (image and found.shows) else found.name

    def _look(self, said: str, client: str) -> Prefetcher | None:
        words = said.lower()
        try:
            address = ip_address(client.partition("%")[0])
        except ValueError:
            address = None
        for one in self.known:
            if said in one.exactly or any(word in words for word in one.agents):
                return one
            if address is not None and any(address in network for network in one.networks):
                return one
        return None


def agent(headers: Mapping[str, str]) -> str:
    """The User-Agent as it is kept: its beginning, what cannot be printed a question mark."""
    given = headers.get("User-Agent", "")[:MAX_AGENT_CHARACTERS]
    return given if given.isprintable() else "".join(c if c.isprintable() else "?" for c in given)


def _read(row: dict[str, Any]) -> Prefetcher:
    """A row; one with a name that is not known is a mistake of ours."""
    given = dict(row)
    return Prefetcher(
        name=given.pop("name"),
        source=given.pop("source"),
        agents=tuple(word.lower() for word in given.pop("agents", ())),
        exactly=tuple(given.pop("exactly", ())),
        networks=tuple(ip_network(text) for text in given.pop("networks", ())),
        **given,
    )
