"""What the operations of every dialect are made of: the caller, the body, the door behind them.

Guarantees: a scope is checked before a body is read; a body is refused by its header where that is enough, and its
memory is in the budget until the request is done; a document of more than LARGE_BYTES, or with many addresses, is
decoded in a thread.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from gateway.api import document
from gateway.api.body import Bodies
from gateway.api.door import Call, Door
from gateway.api.envelope import HttpError
from gateway.api.feeds import Feeds
from gateway.config import Config
from gateway.errors import Refused
from gateway.policy.auth import Principal, require_scope

Value = TypeVar("Value")
Document = dict[str, Any]

_MANY: Final = 50  # addresses, each of which takes up to 0.2 ms: more are read in a thread
_SIGNS: Final = (b"@", b"\\u0040")  # of an address, as JSON may write it


class Body:
    """The bytes of a request, until they are decoded."""

    __slots__ = ("_bytes", "_pool", "size")

    def __init__(self, content: bytes | bytearray, pool: Executor) -> None:
        self._bytes: bytes | bytearray | None = content
        self._pool = pool
        self.size = len(content)

    async def decode(self, parse: Callable[[Document], Value], *, in_thread: bool = False) -> Value:
        """What `parse` makes of the JSON object, in a thread where it is large or the caller says so. Once only.

        Raises Refused.
        """
        content, self._bytes = self._bytes, None  # the decoded message is what is kept while it is stored
        assert content is not None
        is_small = self.size <= document.LARGE_BYTES and sum(map(content.count, _SIGNS)) <= _MANY
        if is_small and not in_thread:
            return parse(document.decode(content))
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: parse(document.decode(content)))


class Service:
    """One for the server; `pool` takes the decoding of large bodies. `stopping`: the server takes no more mail."""

    def __init__(self, config: Config, door: Door, bodies: Bodies, pool: Executor) -> None:
        self.config = config
        self.door = door
        self.stopping = False
        self.feeds = Feeds()
        self._bodies = bodies
        self._pool = pool

    def stop(self) -> None:
        """Who waits for events is answered at once."""
        self.stopping = True
        if self.feeds.count:
            self.door.mail.commits.wake()

    def principal(self, call: Call, secret: str | None, scope: str | None, *, login: str | None = None) -> Principal:
        """Who calls, with the right to do so (`scope` None: whatever it may do). `login` is the user name given
        with the key: any, but not the name of another key. Raises Refused."""
        principal = self.door.authenticate(secret or "", call.peer, login=login)
        call.principal = principal
        call.sends = scope == "send"
        if scope is not None:
            require_scope(principal, scope)
        return principal

    def tell_refused(self, call: Call, error: Refused | HttpError) -> None:
        """Has the mail log tell of mail that its door never saw: the request of a known client was refused before."""
        if call.principal is None or not call.sends:
            return
        match error:
            case Refused(told=False):
                self.door.refused(call.principal, error.reason.code, error.text, peer=call.peer)
            case HttpError():
                self.door.refused(call.principal, error.fault.value[1], error.text, peer=call.peer)

    @asynccontextmanager
    async def body(self, call: Call, *, max_bytes: int | None = None) -> AsyncIterator[Body]:
        """The request's body; its memory is accounted for until the end of the block. Raises HttpError, Refused."""
        self._bodies.check(call.request, max_bytes)
        with self._bodies.share() as share:
            yield Body(await self._bodies.read(call.request, share, max_bytes), self._pool)
