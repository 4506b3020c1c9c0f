"""An address as it is looked for in what is stored, and what a message has of it. Pure.

Guarantees: letters count alike in either case (those beyond ASCII only where text is looked at here, not by a
statement); an address that only holds it (jim-bob@example.net for bob@example.net) is another.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.events import State
from gateway.message import xtext
from gateway.store.db import Row

ERASED: Final = "erased"  # stands where the address was
# Nothing that an address may have, or a control character as JSON writes it, which ends in a letter.
_BEFORE: Final = r"(?:(?<![\w.+-])|(?<=\\[bfnrt])|(?<=\\u00[01][0-9a-f]))"
_PLAIN_END: Final = re.compile(r"[!#-*,-<>-\[\]-~]*$")  # which is the same in each form


class Person:
    """`needle` is what a statement looks for: it is in every text that names the address."""

    def __init__(self, address: str) -> None:
        self.address = address.lower()
        forms = {
            self.address,
            json.dumps(self.address)[1:-1],
            json.dumps(self.address, ensure_ascii=False)[1:-1],
            xtext.encode(self.address),  # as ORCPT and ENVID are kept
        }
        end = _PLAIN_END.search(self.address)
        assert end is not None
        self.needle = end[0]
        either = "|".join(map(re.escape, sorted(forms)))
        self._pattern = re.compile(rf"{_BEFORE}(?:{either})(?![\w-]|\.\w)", re.IGNORECASE)

    def is_(self, text: str) -> bool:
        return text.lower() == self.address

    def is_in(self, text: str) -> bool:
        return self._pattern.search(text) is not None

    def without(self, text: str) -> str:
        """The text with a word in place of the address."""
        return self._pattern.sub(ERASED, text)


@dataclass(frozen=True, slots=True)
class Recipient:
    id: int
    address: str
    orcpt: str
    reply: str
    state: State
    in_hand: bool

    @property
    def is_open(self) -> bool:
        return not self.state.final


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as far as it may name somebody."""

    id: int
    uuid: bytes
    account: str
    envelope_sender: str
    header_from: str
    original_to: str  # JSON array, "" for none
    subject: str
    message_id: str
    tags: str
    metadata: str
    envid: str
    created_at: int
    recipients: tuple[Recipient, ...]

    def theirs(self, person: Person) -> tuple[Recipient, ...]:
        """The recipients that the person is: all of them, where nothing is left of the message without the person."""
        own = tuple(one for one in self.recipients if person.is_(one.address))
        originals = msgspec.json.decode(self.original_to, type=list[str]) if self.original_to else []
        redirected = bool(originals) and all(map(person.is_, originals))
        sent = person.is_(self.envelope_sender) or person.is_(self.header_from)
        return self.recipients if sent or redirected else own

    def is_addressed(self, person: Person) -> bool:
        """Whether its header names the person as somebody it is for."""
        return person.is_in(self.original_to) or any(
            person.is_(one.address) or person.is_in(one.orcpt) for one in self.recipients
        )

    def is_awaited(self, person: Person) -> bool:
        """Whether somebody else is still to get it."""
        theirs = self.theirs(person)
        return any(one.is_open for one in self.recipients if one not in theirs)

    @property
    def texts(self) -> tuple[str, ...]:
        """What else may name a person, in the order of `erasure_message_change`."""
        return (self.original_to, self.subject, self.message_id, self.tags, self.metadata, self.envid)

    def names(self, person: Person) -> bool:
        """Whether any of it does."""
        return (
            bool(self.theirs(person))
            or any(map(person.is_in, self.texts))
            or any(person.is_in(one.orcpt) or person.is_in(one.reply) for one in self.recipients)
        )


def letter(row: Row, recipients: Sequence[Row]) -> Letter:
    """From rows of `erasure_message` and `erasure_recipients`."""
    id_, uuid, account, envelope_sender, header_from, original_to, subject, message_id, tags, metadata, envid, at = row
    return Letter(
        id=id_,
        uuid=uuid,
        account=account,
        envelope_sender=envelope_sender,
        header_from=header_from,
        original_to=original_to,
        subject=subject,
        message_id=message_id,
        tags=tags,
        metadata=metadata,
        envid=envid,
        created_at=at,
        recipients=tuple(
            Recipient(number, address, orcpt, reply, State(state), bool(in_hand))
            for number, address, orcpt, reply, state, in_hand in recipients
        ),
    )
