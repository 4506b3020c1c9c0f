"""What of a message is made for one recipient: tracked links, a pixel, a way to unsubscribe, the envelope sender.

Guarantees: what is stored stays as it was submitted; a form is made of it for one recipient, and mail that wants none
costs a comparison. A message for several recipients is read once for all of them, as long as it is remembered. Memory
is bounded by a few pieces, a few times tracking.survey.HELD_BYTES a message in hand, and REMEMBERED_BYTES.

The envelope sender names the recipient where its transaction has no other one, else the message (RFC 5321, 4.5.5 wants
bounces to come back there). A message that leaves so, or is tracked, carries the same token in X-Gateway-Token, by
which a copy of it in a complaint is known. It does not sign (variants.py) and does not read what comes back.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from gateway.delivery import forming
from gateway.delivery.forming import Form
from gateway.delivery.variants import Stream
from gateway.message import address
from gateway.message.tracking import listing
from gateway.message.tracking.survey import Plan, Wish
from gateway.store.queue import Claimed, Leased
from gateway.tokens import Purpose, Subject, Tokens

REMEMBERED_BYTES: Final = 8 * 1024 * 1024  # of plans, for the other recipients of their messages
FIELD: Final = "X-Gateway-Token"
_TOKEN_CHARACTERS: Final = 44  # of a link


class Mark(NamedTuple):
    """The envelope sender, and the header field with its CRLF that goes in front."""

    sender: str
    field: bytes


class Addresses:
    """What is made for one recipient (stencil.Addresses)."""

    __slots__ = ("_subject", "_tokens", "_url")

    def __init__(self, tokens: Tokens, public_url: str, subject: Subject) -> None:
        self._tokens = tokens
        self._url = public_url
        self._subject = subject

    def click(self, target: str) -> str:
        return f"{self._url}/t/c/{self._tokens.click(self._subject, target)}"

    def pixel(self) -> str:
        return f"{self._url}/t/o/{self._tokens.link(Purpose.OPEN, self._subject)}.gif"


class Sample:
    """Addresses of nobody, as long as those of all."""

    __slots__ = ("_url",)

    def __init__(self, public_url: str) -> None:
        self._url = public_url

    def click(self, target: str) -> str:
        return f"{self._url}/t/c/{'x' * (_TOKEN_CHARACTERS + 1 + (len(target) * 4 + 2) // 3)}"

    def pixel(self) -> str:
        return f"{self._url}/t/o/{'x' * _TOKEN_CHARACTERS}.gif"


class Personal:
    """`public_url` is how recipients reach us (None: they cannot, and nothing is tracked), without a slash at its end;
    `return_path_of` gives the domain of envelope senders for a From domain (policy.Domains.return_path)."""

    def __init__(self, tokens: Tokens, *, public_url: str | None, return_path_of: Callable[[str], str | None]) -> None:
        self._tokens = tokens
        self._public_url = public_url
        self._return_path_of = return_path_of
        self._plans: OrderedDict[int, Plan] = OrderedDict()  # by message, the one used last at the end
        self._planned_bytes = 0

    def reconfigure(self, public_url: str | None) -> None:
        """For every form from now on."""
        if public_url != self._public_url:
            self._public_url = public_url
            self._plans.clear()
            self._planned_bytes = 0

    def wanted(self, claimed: Claimed) -> bool:
        """Whether each recipient gets a form, and so a transaction, of its own."""
        if not claimed.track and not claimed.unsubscribe:
            return False
        return self._public_url is not None or (claimed.unsubscribe != "" and self._return_path(claimed) is not None)

    def renames(self, claimed: Claimed) -> bool:
        """Whether the envelope sender is another one than was submitted: then it is ASCII."""
        return self._sender_domain(claimed) is not None

    def mark(self, claimed: Claimed, recipients: Sequence[Leased]) -> Mark | None:
        """By what a transaction for these recipients is known when something comes back; None: by nothing."""
        domain = self._sender_domain(claimed)
        if domain is None and not self.wanted(claimed):
            return None
        recipient = recipients[0].id if len(recipients) == 1 else 0
        token = self._tokens.local(Purpose.RETURN_PATH, Subject(claimed.message, recipient))
        sender = claimed.envelope_sender if domain is None else f"b+{token}@{domain}"
        return Mark(sender, f"{FIELD}: {token}\r\n".encode())

    async def form(self, claimed: Claimed, recipient: Leased, content: bytes | None, stream: Stream) -> Form:
        """The message for one recipient. Raises what `stream` raises."""
        source, subject = forming.Source(claimed.facts, content, stream), Subject(claimed.message, recipient.id)
        header = await source.header()
        url = self._public_url  # from here on: what is remembered is of this one
        plan = self._remembered(claimed.message) or await self._plan(claimed, source, header, url)
        new = plan.header
        if claimed.unsubscribe and plan.note != forming.DKIM:
            new = listing.with_unsubscribe(new, *self._ways_out(claimed, subject, url))
        if new == header and not plan.places:
            return Form(claimed.facts, content, stream, plan.note)
        addresses = Addresses(self._tokens, url or "", subject)
        patches = await forming.patches(plan, addresses) if plan.places else []
        return await source.formed(new, patches, note=plan.note, dot_lines=plan.dot_lines)

    async def _plan(self, claimed: Claimed, source: forming.Source, header: bytes, url: str | None) -> Plan:
        track = claimed.track if url is not None else 0
        plan = await source.plan(header, Wish(track, f"{url}/t/"), Sample(url or ""))
        if claimed.recipient_count > 1 and plan.size <= REMEMBERED_BYTES and url == self._public_url:
            self._remember(claimed.message, plan)
        return plan

    def _remembered(self, message: int) -> Plan | None:
        plan = self._plans.get(message)
        if plan is not None:
            self._plans.move_to_end(message)
        return plan

    def _remember(self, message: int, plan: Plan) -> None:
        replaced = self._plans.pop(message, None)
        self._plans[message] = plan
        self._planned_bytes += plan.size - (replaced.size if replaced is not None else 0)
        while self._planned_bytes > REMEMBERED_BYTES:
            _, oldest = self._plans.popitem(last=False)
            self._planned_bytes -= oldest.size

    def _ways_out(self, claimed: Claimed, subject: Subject, url: str | None) -> tuple[str | None, str | None]:
        """A URL and an address by which this recipient unsubscribes."""
        link = None if url is None else f"{url}/t/u/{self._tokens.link(Purpose.UNSUBSCRIBE, subject)}"
        domain = self._return_path(claimed)
        local = self._tokens.local(Purpose.UNSUBSCRIBE, subject)
        return link, None if domain is None else f"u+{local}@{domain}"

    def _sender_domain(self, claimed: Claimed) -> str | None:
        """None: the sender stays, as it is null (RFC 5321, 4.5.5) or was asked for."""
        return self._return_path(claimed) if claimed.envelope_sender and not claimed.own_return_path else None

    def _return_path(self, claimed: Claimed) -> str | None:
        return self._return_path_of(address.domain_of(claimed.header_from))
