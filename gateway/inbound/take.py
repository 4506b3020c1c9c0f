"""Mail that comes back becomes facts: addresses with our tokens, complaints, and what is written of them.

Guarantees: only addresses that were made here, and those configured for complaints, are anybody's; whoever made one up
costs one code and no question to the store. It returns when the facts are committed; where they cannot be, or an
attempt has the recipient in hand still, the other side is told to come again. Of one address a bounded number of
reports an hour is read. Nothing is ever answered, and nothing of a report is kept but what it says.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from gateway.errors import Reason, Refused
from gateway.events import EventType
from gateway.inbound import facts
from gateway.inbound.facts import Facts, Judge, Way
from gateway.keyterms import Limit, Unit
from gateway.message import reports
from gateway.observe import Field, MailLog
from gateway.policy.limits import Buckets
from gateway.runtime import Clock, show_id
from gateway.store.late import Looked
from gateway.store.queue import Heard
from gateway.tokens import Purpose, Subject, Tokens

# A bounce and what follows it: more than these for one recipient in an hour is a loop or a flood.
REPORTS: Final = Limit(Unit.MESSAGES, count=20, period_s=3600, burst=20)
# The same for a message that went to several at once, where each of them may bounce by itself.
REPORTS_OF_SEVERAL: Final = Limit(Unit.MESSAGES, count=2000, period_s=3600, burst=2000)

ROUTE: Final = "(return path)"  # in the mail log: no configuration can have one of that name
_NOBODY: Final = "Nobody has this address."
_NO_READER: Final = "No person reads mail here: this host takes reports about mail that it sent, and nothing else."
_PURPOSES: Final = {"b": (Way.BOUNCE, Purpose.RETURN_PATH), "u": (Way.UNSUBSCRIBE, Purpose.UNSUBSCRIBE)}
_READERS: Final = frozenset({"postmaster", "abuse", "hostmaster"})  # RFC 2142, where people are looked for

log = logging.getLogger("gateway.inbound")


class Store(Protocol):
    """What is asked of the store."""

    async def settle_late(self, heard: Sequence[Heard]) -> Sequence[bool]: ...

    async def look(self, message: int, recipient: int) -> Looked | None: ...


@dataclass(frozen=True, slots=True)
class Addressee:
    """`subject` is None at an address for complaints."""

    way: Way
    subject: Subject | None


class Inbound:
    """`return_paths` are the domains of our envelope senders now; `judge` says what a host's words mean."""

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        *,
        return_paths: Callable[[], AbstractSet[str]],
        feedback: Sequence[str],
        judge: Judge,
        clock: Clock,
        log: MailLog,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._return_paths = return_paths
        self._feedback = _folded(feedback)
        self._judge = judge
        self._clock = clock
        self._log = log
        self._reading = asyncio.Semaphore(1)
        self._seen = Buckets(REPORTS, clock)
        self._seen_of_several = Buckets(REPORTS_OF_SEVERAL, clock)

    def reconfigure(self, feedback: Sequence[str]) -> None:
        """The addresses for complaints, from now on."""
        self._feedback = _folded(feedback)

    def check(self, address: str, peer: str) -> Addressee:
        """Whose address it is. Refused where it is nobody's, or had too many reports."""
        found = self._addressee(address)
        if found.subject is not None and not self._heeds(found.subject):
            log.debug("%s: too many reports for one address", peer)
            raise Refused(Reason.RATE_LIMITED, "There were too many reports about this mail.")
        return found

    async def take(self, address: str, sender: str, content: bytes, *, peer: str) -> None:
        """Write what a message says. Refused where nothing can be made of it, or not now; StoreError."""
        addressee = self._addressee(address)
        # A thread: a report of a megabyte takes longer to read than other connections may wait. One, for the threads
        # are everybody's, and strangers may send as much as they like.
        async with self._reading:
            report = await asyncio.to_thread(reports.read, content, self._tokens)
        now = self._clock.now_ms()
        found = facts.of(addressee.way, addressee.subject, report, sender=sender, now=now, judge=self._judge)
        if not found.heard:
            self._pass_over(addressee, found, report.subject, sender, peer)
            return
        heard = await self._scoped(found.heard)
        changed = await self._settle(heard)
        await self._tell([one for one, new in zip(heard, changed, strict=True) if new], peer)
        if not all(changed):
            log.debug("%s: %d of %d facts changed nothing", peer, len(changed) - sum(changed), len(changed))

    def _addressee(self, address: str) -> Addressee:
        local, _, domain = address.rpartition("@")
        if address.lower() in self._feedback:
            return Addressee(Way.FEEDBACK, None)
        if domain.lower() in self._return_paths():
            kind, plus, token = local.partition("+")
            way, purpose = _PURPOSES.get(kind.lower(), (None, None)) if plus else (None, None)
            subject = self._tokens.read_local(purpose, token) if purpose is not None else None
            if way is not None and subject is not None:
                return Addressee(way, subject)
        reader = (local or address).lower() in _READERS
        raise Refused(
            Reason.INSUFFICIENT_PERMISSIONS if reader else Reason.NOT_FOUND, _NO_READER if reader else _NOBODY
        )

    def _heeds(self, subject: Subject) -> bool:
        buckets = self._seen if subject.recipient else self._seen_of_several
        return buckets.take(f"{subject.message}/{subject.recipient}") == 0

    def _pass_over(self, addressee: Addressee, found: Facts, text: str, sender: str, peer: str) -> None:
        fields = {"way": addressee.way.value, "from": sender or "<>", "subject": text, "client": peer}
        log.info("mail that came back tells nothing: %s", found.why, extra={"fields": fields})
        if not found.welcome:
            raise Refused(Reason.INSUFFICIENT_PERMISSIONS, _NO_READER)

    async def _scoped(self, heard: Sequence[Heard]) -> Sequence[Heard]:
        """An unsubscription is from what the message offered."""
        if heard[0].type is not EventType.UNSUBSCRIBED:
            return heard
        looked = await self._store.look(heard[0].message, heard[0].recipient)
        tag = looked.unsubscribe.removeprefix("*") if looked is not None else ""
        return [msgspec.structs.replace(one, tag=tag) for one in heard]

    async def _settle(self, heard: Sequence[Heard]) -> Sequence[bool]:
        """Written, or nothing to be written. Refused where an attempt has it in hand."""
        changed = list(await self._store.settle_late(heard))
        early = [n for n, new in enumerate(changed) if not new and heard[n].type is EventType.BOUNCED]
        for message, recipient in facts.addressees([heard[n] for n in early]):
            # A next hop may be quicker to bounce than our own commit that it was delivered.
            looked = await self._store.look(message, recipient)
            if looked is not None and looked.in_hand:
                raise Refused(Reason.STORAGE_UNAVAILABLE, "This mail is being delivered still, try again later.")
        if early:  # it may have been settled between
            again = await self._store.settle_late([heard[n] for n in early])
            for number, new in zip(early, again, strict=True):
                changed[number] = new
        return changed

    async def _tell(self, heard: Sequence[Heard], peer: str) -> None:
        if not self._log.enabled:
            return
        for one in heard:
            looked = await self._store.look(one.message, one.recipient)
            if looked is not None:
                to = looked.address or (one.addresses[0] if one.addresses else "")
                told: dict[str, Field] = {"class": one.bounce_class.value} if one.bounce_class else {}
                self._log.attempted(
                    one.type.value,
                    message=show_id("eml_", looked.uuid),
                    to=to,
                    route=ROUTE,
                    host=one.host,
                    address="",
                    tls="",
                    attempt=0,
                    took_ms=0,
                    reply=one.reply,
                    extra=told | {"client": peer, "late": True},
                )


def _folded(addresses: Sequence[str]) -> frozenset[str]:
    return frozenset(address.lower() for address in addresses)
