"""What the command line asks of endpoints of webhooks: actions that take and give JSON values.

An operator sees the endpoints of every account.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.manage import refusals
from gateway.manage.webhooks import From, WebhookManager, WebhookWish
from gateway.runtime import Clock

Args = dict[str, Any]
Action = Callable[[Args], Awaitable[Any]]


class WebhookActions:
    """By name, for the control socket."""

    def __init__(self, manager: WebhookManager, clock: Clock) -> None:
        self._manager = manager
        self._clock = clock

    def actions(self) -> Mapping[str, Action]:
        """What can be asked for by name."""
        return {
            "webhook.add": self.add,
            "webhook.list": self.list_,
            "webhook.show": self.show,
            "webhook.test": self.test,
            "webhook.pause": self.pause,
            "webhook.resume": self.resume,
            "webhook.replay": self.replay,
            "webhook.remove": self.remove,
            "webhook.rotate": self.rotate,
            "webhook.attempts": self.attempts,
            "webhook.dead": self.dead,
        }

    async def add(self, args: Args) -> Any:
        """Args: url, account (without: it is told of all), format, types, keys, tags, final_only, secret."""
        account = str(args.get("account") or "")
        if account and not account.isprintable():
            raise refusals.invalid("account", "an account has printable characters")
        wish = WebhookWish(
            url=str(args["url"]),
            format=args.get("format"),
            types=_texts(args, "types"),
            keys=_texts(args, "keys"),
            tags=_texts(args, "tags"),
            final_only=args.get("final_only"),
            secret=args.get("secret"),
        )
        return await self._manager.add(account, wish)

    async def list_(self, args: Args) -> Any:
        """Args: account (without: of everybody)."""
        return await self._manager.listing(args.get("account"))

    async def show(self, args: Args) -> Any:
        """Args: id. With `attempts`, the last requests, and `given_up`, the last events that were."""
        return {
            **await self._manager.show(None, _id(args)),
            "attempts": await self.attempts(args),
            "given_up": await self.dead(args),
        }

    async def test(self, args: Args) -> Any:
        """Args: id."""
        return await self._manager.test(None, _id(args))

    async def pause(self, args: Args) -> Any:
        """Args: id."""
        return await self._manager.pause(None, _id(args))

    async def resume(self, args: Args) -> Any:
        """Args: id."""
        return await self._manager.resume(None, _id(args))

    async def replay(self, args: Args) -> Any:
        """Args: id, and one of: cursor; since (Unix ms) or ago_s (seconds before now); dead: true."""
        since, ago_s = args.get("since"), args.get("ago_s")
        if ago_s is not None:
            since = self._clock.now_ms() - int(ago_s * 1000)
        start = From(cursor=args.get("cursor"), since=since, dead=bool(args.get("dead")))
        return await self._manager.replay(None, _id(args), start)

    async def remove(self, args: Args) -> Any:
        """Args: id."""
        return await self._manager.remove(None, _id(args))

    async def rotate(self, args: Args) -> Any:
        """Args: id, overlap_s (how long the old secret stays good), secret."""
        return await self._manager.rotate(None, _id(args), args.get("secret"), args.get("overlap_s"))

    async def attempts(self, args: Args) -> Any:
        """Args: id."""
        return await self._manager.attempts(None, _id(args))

    async def dead(self, args: Args) -> Any:
        """Args: id."""
        return await self._manager.dead(None, _id(args))


def _id(args: Args) -> str:
    return str(args["id"])


def _texts(args: Args, name: str) -> tuple[str, ...] | None:
    given = args.get(name)
    return tuple(map(str, given)) if given is not None else None
