"""What recipients' programs fetch of us: the pixel, links that lead over us, and the way to the page that unsubscribes.

Guarantees: a token is read before anything else is done, so one that was not made here, for this purpose, costs a few
hashes and is 404; what a link leads to is under its code, and is http or https; an answer never waits for the event.
HEAD and known programs are told as machines. No cookie, no cache.
"""

import html
import re
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from gateway.api import unsubscribepage
from gateway.api.dialect import Dialect, Serve
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.prefetchers import Prefetchers, agent
from gateway.api.routing import Place
from gateway.api.service import Service
from gateway.api.trackwriter import Settle, TrackWriter
from gateway.api.unsubscribe import Unsubscribe
from gateway.api.unsubscribepage import GUARDED, PRIVATE
from gateway.errors import Reason, Refused
from gateway.events import EventType
from gateway.runtime import Clock
from gateway.store.offers import Offer
from gateway.store.queue import Heard
from gateway.tokens import Purpose, Subject, Tokens

BEGINNING: Final = "/t/"  # of every path that is for recipients
OPEN: Final = "/t/o/"
CLICK: Final = "/t/c/"
UNSUBSCRIBE: Final = "/t/u/"
# One transparent pixel (GIF89a): nothing smaller is shown by everything.
PIXEL: Final = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
_GIF: Final = ".gif"
_WEB: Final = re.compile(r"https?://[^/?#\\\s]", re.IGNORECASE)
_BREAKS: Final = str.maketrans("", "", "\t\r\n")  # a URL is read without them (WHATWG URL, 4.4)
_KEPT: Final = "!#$%&'()*+,/:;=?@[]~"  # of a URL that is made ASCII

_DIALECT: Final = Dialect(
    name="recipients",
    operations=(),
    owns=(BEGINNING,),
    refusal=lambda refused, _id: unsubscribepage.refusal(refused),
    http_error=lambda error, _id: unsubscribepage.http_error(error),
    limit_headers=lambda _allowances: (),
)


class Visits:
    """The pages below BEGINNING."""

    def __init__(
        self,
        tokens: Tokens,
        writer: TrackWriter,
        *,
        find: Callable[[int, int], Awaitable[Offer | None]],
        settle: Settle,
        clock: Clock,
        prefetchers: Prefetchers | None = None,
    ) -> None:
        """`find` says what a recipient can unsubscribe from, `settle` writes that it did."""
        self._tokens = tokens
        self._writer = writer
        self._clock = clock
        self._prefetchers = prefetchers or Prefetchers()
        page = Unsubscribe(tokens, writer, find=find, settle=settle, clock=clock)
        self._places: Mapping[str, tuple[str, Mapping[str, Serve]]] = MappingProxyType(
            {
                OPEN: (f"{OPEN}{{}}", {"GET": self._opened}),
                CLICK: (f"{CLICK}{{}}", {"GET": self._clicked}),
                UNSUBSCRIBE: (f"{UNSUBSCRIBE}{{}}", {"GET": page.ask, "POST": page.do}),
            }
        )
        self.dialect = _DIALECT

    def find(self, path: str) -> Place | None:
        """Who serves a path below BEGINNING."""
        beginning, rest = path[: len(OPEN)], path[len(OPEN) :]
        found = self._places.get(beginning)
        if found is None or not rest:
            return None
        return Place(self.dialect, found[1], rest, found[0])

    async def _opened(self, _service: Service, call: Call) -> Answer:
        token = call.argument
        subject = self._tokens.read_link(Purpose.OPEN, token.removesuffix(_GIF)) if token.endswith(_GIF) else None
        if subject is None:
            raise _unknown()
        self._note(call, subject, EventType.OPENED)
        return Answer(200, PIXEL, PRIVATE, content_type="image/gif")

    async def _clicked(self, _service: Service, call: Call) -> Answer:
        token, _, encoded = call.argument.partition("/")
        read = self._tokens.read_click(token, encoded)
        if read is None:
            raise _unknown()
        subject, url = read
        target = location(url)
        if target is None:
            raise _unknown()
        self._note(call, subject, EventType.CLICKED, url)
        body = (
            f'<!DOCTYPE html>\n<html lang="en"><title>Moved</title><a href="{html.escape(target)}">Go on</a></html>\n'
        )
        return Answer(302, body.encode(), (*GUARDED, ("Location", target)), content_type="text/html; charset=utf-8")

    def _note(self, call: Call, subject: Subject, type_: EventType, url: str = "") -> None:
        headers = call.request.headers
        image = type_ is EventType.OPENED
        self._writer.note(
            Heard(
                message=subject.message,
                recipient=subject.recipient,
                type=type_,
                at=self._clock.now_ms(),
                url=url,
                client=call.peer,
                user_agent=agent(headers),
                machine=self._prefetchers.machine(call.request.method, headers, call.peer, image=image),
            )
        )


def location(url: str) -> str | None:
    """A target as the field Location has it: ASCII, what is not percent-encoded; None of what is not http or https."""
    text = url.translate(_BREAKS).strip()
    return quote(text, safe=_KEPT) if _WEB.match(text) else None


def _unknown() -> Refused:
    return Refused(Reason.NOT_FOUND, "There is nothing at this address.")
