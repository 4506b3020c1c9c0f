"""What is queued, handed out to be kept or sent by another system: envelopes and contents, a part at a time.

Guarantees: content is handed out as it is stored, if its SHA-256 is right; an answer has a bounded size, whatever is
queued. An export is no snapshot: what is delivered while it goes on may be in it or not. Nothing is changed.
"""

import base64
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from gateway import views
from gateway.manage import refusals, selection
from gateway.runtime import Clock
from gateway.store.connection import Damaged
from gateway.store.finding import Found
from gateway.store.queue import INLINE_BYTES
from gateway.store.shown import Filter, MessageView

PART_BYTES: Final = 256 * 1024  # of one answer, about; encoding it is some milliseconds of the loop
_RECIPIENT_BYTES: Final = 400
_SESSIONS: Final = 4  # at a time; the oldest makes room
_EVERYTHING: Final = 1 << 62

Args = dict[str, Any]


class Source(Protocol):
    """The part of the store that is used."""

    def slices(self, which: Filter) -> AsyncIterator[list[Found]]: ...

    async def message(self, uuid: bytes, account: str | None) -> MessageView | None: ...

    async def content(self, uuid: bytes) -> bytes | None: ...

    async def piece(self, message: int, index: int) -> bytes: ...


@dataclass(slots=True)
class _Session:
    """An export that goes on: what was found and not yet handed out, by message."""

    slices: AsyncIterator[list[Found]]
    left: int  # recipients
    found: list[Found] = field(default_factory=list)

    async def next(self) -> list[Found]:
        """The recipients of the next message; none at the end. They come together, but for a message that a slice cut
        in two."""
        if not self.found and self.left > 0:
            async for found in self.slices:
                self.found = found[: self.left]
                self.left -= len(self.found)
                if found:
                    break
        number = 0
        while number < len(self.found) and self.found[number].message == self.found[0].message:
            number += 1
        group, self.found = self.found[:number], self.found[number:]
        return group


class ExportActions:
    """Actions over one store; the exports that go on are known in the process only."""

    def __init__(self, store: Source, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._sessions: dict[str, _Session] = {}

    def actions(self) -> Mapping[str, Callable[[Args], Awaitable[Any]]]:
        return {"export.begin": self.begin, "export.next": self.next, "export.piece": self.piece}

    async def begin(self, args: Args) -> Any:
        """Args: the filter (selection.py). Gives the name of the export."""
        which = selection.read(args, self._clock.now_ms(), most=_EVERYTHING, usual=_EVERYTHING)
        while len(self._sessions) >= _SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        name = secrets.token_hex(8)
        self._sessions[name] = _Session(self._store.slices(which), which.limit)
        return {"export": name}

    async def next(self, args: Args) -> Any:
        """Args: export. The next messages, `end` where these are the last; a message may come again with further
        recipients. Content that is large is to be fetched by `piece`; `fault` says why there is none."""
        session = self._sessions.get(str(args["export"]))
        if session is None:
            raise refusals.unknown("export", f"{args['export']}; it was cut off, begin anew")
        messages: list[Any] = []
        size = 0
        while size < PART_BYTES:
            group = await session.next()
            if not group:
                self._sessions.pop(str(args["export"]), None)
                return {"messages": messages, "end": True}
            if (shown := await self._show(group)) is not None:
                messages.append(shown)
                size += len(shown["content"] or "") + _RECIPIENT_BYTES * (1 + len(shown["recipients"]))
        return {"messages": messages, "end": False}

    async def piece(self, args: Args) -> Any:
        """Args: id, number, index. A piece of a large message; null where it ended meanwhile, and where `fault` says
        what is wrong with it. Raises StoreError."""
        try:
            data = await self._store.piece(int(args["number"]), int(args["index"]))
        except Damaged as error:
            uuid = selection.message_uuid(str(args["id"]))
            view = await self._store.message(uuid, None) if uuid else None
            ended = view is None or all(one.state.final for one in view.recipients)
            return {"content": None, "fault": "" if ended else str(error)}
        return {"content": base64.b64encode(data).decode(), "fault": ""}

    async def _show(self, group: Sequence[Found]) -> Any:
        """A message with those of its recipients that match; None where it ended meanwhile."""
        first = group[0]
        view = await self._store.message(first.row.uuid, None)
        if view is None:
            return None
        wanted = {found.row.recipient.id for found in group}
        recipients = tuple(one for one in view.recipients if one.id in wanted and not one.state.final)
        content, fault = None, ""
        if view.size <= INLINE_BYTES:
            try:
                content = await self._store.content(view.uuid)
            except Damaged as error:
                fault = str(error)
        if not recipients or (content is None and not fault and view.size <= INLINE_BYTES):
            return None  # it was delivered meanwhile
        return {
            **views.message_view(replace(view, recipients=recipients)),
            "number": first.message,
            "content": base64.b64encode(content).decode() if content is not None else None,
            "fault": fault,
        }
