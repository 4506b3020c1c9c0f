"""/t/u/TOKEN: unsubscribing by one click (RFC 8058), and the page for people.

Guarantees: GET and HEAD change nothing, whoever follows the link; a POST that says what it wants is answered by 200
once it is written, without a redirect and without asking who comes: the token is the proof. It may come again. Whoever
unsubscribes does so from what the message offered: all mail of the account, or one tag of it.
"""

from collections.abc import Awaitable, Callable

from gateway.api import prefetchers, unsubscribeform, unsubscribepage
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.service import Service
from gateway.api.trackwriter import Settle, TrackWriter
from gateway.errors import Reason, Refused
from gateway.events import EventType
from gateway.runtime import Clock
from gateway.store.offers import Offer
from gateway.store.queue import Heard
from gateway.tokens import Purpose, Tokens


class Unsubscribe:
    """`find` says what a recipient can unsubscribe from, `settle` writes that it did."""

    def __init__(
        self,
        tokens: Tokens,
        writer: TrackWriter,
        *,
        find: Callable[[int, int], Awaitable[Offer | None]],
        settle: Settle,
        clock: Clock,
    ) -> None:
        self._tokens = tokens
        self._writer = writer
        self._find = find
        self._settle = settle
        self._clock = clock

    async def ask(self, _service: Service, call: Call) -> Answer:
        """GET. Raises Refused (another token), StoreError."""
        offer = await self._offer(call)
        return unsubscribepage.ask(offer) if offer is not None else unsubscribepage.gone()

    async def do(self, _service: Service, call: Call) -> Answer:
        """POST. Raises Refused, HttpError, StoreError."""
        offer = await self._offer(call)
        body = await unsubscribeform.read(call.request)
        if offer is None:
            return unsubscribepage.gone()
        if not unsubscribeform.means_it(call.request.headers.get("Content-Type", ""), body):
            return unsubscribepage.ask(offer, status=400)
        heard = Heard(
            message=offer.message,
            recipient=offer.recipient,
            type=EventType.UNSUBSCRIBED,
            at=self._clock.now_ms(),
            client=call.peer,
            user_agent=prefetchers.agent(call.request.headers),
            tag=offer.tag,
        )
        if not self._writer.allows(heard):
            return unsubscribepage.too_many()
        await self._settle((heard,))
        return unsubscribepage.done(offer)

    async def _offer(self, call: Call) -> Offer | None:
        subject = self._tokens.read_link(Purpose.UNSUBSCRIBE, call.argument)
        if subject is None:
            raise Refused(Reason.NOT_FOUND, "There is nothing at this address.")
        return await self._find(subject.message, subject.recipient)
