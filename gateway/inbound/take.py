"""Mail that comes back becomes facts: addresses with our tokens, complaints, and what is written of them.

Guarantees: only addresses that were made here, and those configured for complaints, are anybody's; whoever made one up
costs one code and no question to the store. It returns when the facts are committed; where they cannot be, or an
attempt has the recipient in hand still, the other side is told to come again. Of one token a bounded number of
reports an hour is read, and a bounded number waits to be. Nothing is ever answered, and nothing of a report is kept but
what it says.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from gateway.errors import Reason, Refused, StoreError
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
MOST_UNREAD: Final = 100  # reports; who sent one may be gone, so that no limit of connections counts it
MOST_UNREAD_ABOUT_ANY: Final = 50  # where none but complaints, whose address anybody knows, find no more room

# By which way it was heard, as the route in the mail log: no configuration can have one of that name.
BY_MAIL: Final = "(return path)"
BY_HTTP: Final = "(web)"
_NOBODY: Final = "Nobody has this address."
_NO_READER: Final = "No person reads mail here: this host takes reports about mail that it sent, and nothing else."
_FORGOTTEN: Final = "Nothing is known of this mail any more, ask its sender to write to you no more."
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
        self._unread = 0
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
        found, subject = await self._read(addressee, sender, content)
        if not found.heard:
            self._pass_over(addressee, found, subject, sender, peer)
            return
        heard = await self._scoped(found.heard)
        changed = await self._settle(heard, BY_MAIL, peer)
        early = [one for one, new in zip(heard, changed, strict=True) if not new and one.type is EventType.BOUNCED]
        if early:
            await self._refuse_in_hand(early)
            await self._settle(early, BY_MAIL, peer)  # it may have been settled between

    async def settle_late(self, heard: Sequence[Heard]) -> Sequence[bool]:
        """What was heard over HTTP: the store's, and told as what comes by mail. StoreError."""
        return await self._settle(heard, BY_HTTP)

    async def _read(self, addressee: Addressee, sender: str, content: bytes) -> tuple[Facts, str]:
        """What it says, and its subject."""
        if self._unread >= (MOST_UNREAD if addressee.subject is not None else MOST_UNREAD_ABOUT_ANY):
            raise Refused(Reason.BACKLOG_FULL, "There are too many reports at once, try again later.")
        self._unread += 1
        try:
            # A thread: a large report takes longer to read and to judge than other connections may wait. One, for the
            # threads are everybody's, and strangers may send as much as they like.
            async with self._reading:
                return await asyncio.to_thread(self._understood, addressee, sender, content)
        finally:
            self._unread -= 1

    def _understood(self, addressee: Addressee, sender: str, content: bytes) -> tuple[Facts, str]:
        report, now = reports.read(content, self._tokens), self._clock.now_ms()
        found = facts.of(addressee.way, addressee.subject, report, sender=sender, now=now, judge=self._judge)
        return found, report.subject

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
        """An unsubscription is from what the message offered. Refused where that is not known any more: a person's wish
        is not to be lost unseen."""
        if heard[0].type is not EventType.UNSUBSCRIBED:
            return heard
        looked = await self._store.look(heard[0].message, heard[0].recipient)
        if looked is None or not looked.address:
            raise Refused(Reason.NOT_FOUND, _FORGOTTEN)
        return [msgspec.structs.replace(one, tag=looked.unsubscribe.removeprefix("*")) for one in heard]

    async def _settle(self, heard: Sequence[Heard], way: str, peer: str = "") -> Sequence[bool]:
        changed = await self._store.settle_late(heard)
        news = [one for one, new in zip(heard, changed, strict=True) if new]
        if len(news) < len(heard):
            log.debug("%s: %d of %d facts changed nothing", peer or way, len(heard) - len(news), len(heard))
        if self._log.enabled:
            with contextlib.suppress(StoreError):  # it is written: that the log lacks a line is no reason to come again
                for one in news:
                    await self._tell(one, way, peer or one.client)
        return changed

    async def _refuse_in_hand(self, heard: Sequence[Heard]) -> None:
        """A next hop may be quicker to bounce than our own commit that it was delivered."""
        for message, recipient in facts.addressees(heard):
            looked = await self._store.look(message, recipient)
            if looked is not None and looked.in_hand:
                raise Refused(Reason.STORAGE_UNAVAILABLE, "This mail is being delivered still, try again later.")

    async def _tell(self, heard: Heard, way: str, client: str) -> None:
        looked = await self._store.look(heard.message, heard.recipient)
        if looked is None:
            return
        told: dict[str, Field] = {"class": heard.bounce_class.value} if heard.bounce_class else {}
        self._log.attempted(
            heard.type.value,
            message=show_id("eml_", looked.uuid),
            to=looked.address or (heard.addresses[0] if heard.addresses else ""),
            route=way,
            host=heard.host,
            address="",
            tls="",
            attempt=0,
            took_ms=0,
            reply=heard.reply,
            extra=told | {"client": client, "late": True},
        )


def _folded(addresses: Sequence[str]) -> frozenset[str]:
    return frozenset(address.lower() for address in addresses)
