"""A carrier with everything it stands on: real DNS, real hosts, a real pool and a real signer; a queue of two verbs."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from msgspec import structs

from gateway.config import Config, Delivery, Dns, HopTls, Listen, MxRoute, RelayRoute, Route, Smtp, SmtpListener
from gateway.delivery.attempt import Carrier, Couriers
from gateway.delivery.pool import Pool
from gateway.delivery.signer import Signer
from gateway.errors import StoreError
from gateway.message import canonical
from gateway.message.model import Facts
from gateway.policy.domains import Domains, SendingDomain
from gateway.resolver import Resolver
from gateway.runtime import Clock, uuid7
from gateway.store.queue import Claimed, Due, Leased, Queue, Result
from tests.fakes.dns import FakeDns
from tests.fakes.mx import FakeMx, Reaction
from tests.fakes.outbound import BRISK

NOW = 1_700_000_000_000
DAY_MS = 24 * 3600 * 1000
HEADER = b"From: a@sender.test\r\nTo: b@example.test\r\nSubject: hello\r\n\r\n"
CONTENT = HEADER + b"how are you\r\n"
ZONE = """
example.test    MX 10 one.test
example.test    MX 20 two.test
example.test    MX 30 three.test
one.test        A  127.0.0.1
two.test        A  127.0.0.2
three.test      A  127.0.0.3
gw.test         A  127.0.0.9
bare.test       A  127.0.0.1
null.test       MX 0 .
homeless.test   MX 10 nowhere.test
loop.test       MX 10 GW.test
loop.test       MX 20 one.test
behind.test     MX 10 one.test
behind.test     MX 20 gw.test
behind.test     MX 30 two.test
servfail.test   SERVFAIL
refused.test    REFUSED
half.test       MX 10 servfail.test
half.test       MX 20 one.test
relay.test      A  127.0.0.1
other.test      MX 10 two.test
"""


class Pieces:
    """The two verbs of a queue that an attempt needs. `marked` are the calls of `mark`; `away` makes them fail."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.marked: list[list[tuple[int, int]]] = []
        self.away = False

    async def mark(self, recipients: Sequence[tuple[int, int]]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise StoreError("the disk is gone")
        self.marked.append(list(recipients))

    async def piece(self, message: int, index: int) -> bytes:
        if index >= len(self._pieces):
            raise StoreError("the piece is missing")
        return self._pieces[index]


@dataclass(slots=True)
class Desk:
    """Everything an attempt stands on. `now_s` is the monotonic clock's."""

    dns: FakeDns
    couriers: Couriers
    now_s: float = 0.0

    def carrier(self, route: str = "direct", domain: str = "example.test") -> Carrier:
        return self.couriers.carrier(Due(1, route, domain))

    async def deliver(
        self, *recipients: str, route: str = "direct", domain: str = "example.test", **changes: Any
    ) -> tuple[Result, ...]:
        carrier = self.carrier(route, domain)
        try:
            return await attempt(carrier, *recipients, **changes)
        finally:
            carrier.close()

    async def one(self, domain: str, **more: Any) -> Result:
        """The result for a single recipient at that domain."""
        (result,) = await self.deliver(f"b@{domain}", domain=domain, **more)
        return result


async def attempt(carrier: Carrier, *recipients: str, **changes: Any) -> tuple[Result, ...]:
    (made,) = await carrier.deliver(claimed(*recipients, **changes))
    assert (made.message, made.destination) == (7, 1)
    assert [result.recipient for result in made.results] == list(range(len(made.results)))
    return made.results


def claimed(*recipients: str, content: bytes = CONTENT, **changes: Any) -> Claimed:
    header, _, body = content.partition(b"\r\n\r\n")
    hasher = canonical.BodyHasher()
    hasher.update(body)
    made = Claimed(
        message=7,
        uuid=uuid7(NOW),
        account="main",
        key="shop",
        envelope_sender="a@sender.test",
        header_from="a@sender.test",
        message_id="<x@sender.test>",
        facts=Facts(len(content), len(header) + 4, hasher.digest(), eight_bit=False, utf8_header=False, dot_lines=True),
        created_at=NOW,
        expires_at=NOW + DAY_MS,
        priority=0,
        piece_count=1,
        content=content,
        recipients=tuple(
            Leased(number, address, attempts=0, fence=3, possible_duplicate=False)
            for number, address in enumerate(recipients or ("b@example.test",))
        ),
    )
    return structs.replace(made, **changes)


@contextlib.asynccontextmanager
async def desk(
    routes: Iterable[Route],
    *,
    zone: str = ZONE,
    queue: Pieces | None = None,
    keys: Iterable[SendingDomain] = (),
    **delivery: Any,
) -> AsyncIterator[Desk]:
    async with FakeDns(zone) as dns:
        routes = list(routes)
        # We would answer at the port of the MX route: there our own name among the hosts is a loop.
        ports = [route.port for route in routes if isinstance(route, MxRoute)]
        config = Config(
            hostname="gw.test",
            smtp=Smtp(tuple(SmtpListener(Listen("127.0.0.1", port)) for port in ports)),
            dns=Dns((dns.listen,)),
            routes={route.name: route for route in routes},
            delivery=Delivery(**{"timeouts": BRISK} | delivery),
        )
        pool, signer, domains = Pool(config.delivery), Signer(), Domains()
        domains.load(keys)
        couriers = Couriers(
            config,
            cast(Queue, queue or Pieces()),
            Resolver([dns.listen]),
            pool,
            signer,
            domains,
            Clock(now_ms=lambda: NOW, monotonic=lambda: made.now_s),
            rng=random.Random(1),
            ipv6=False,
        )
        made = Desk(dns, couriers)
        try:
            yield made
        finally:
            await pool.close()
            await signer.close()


@contextlib.asynccontextmanager
async def hosts(*scripts: dict[str, Reaction] | None, **options: Any) -> AsyncIterator[list[FakeMx]]:
    """Hosts on one port of 127.0.0.1, 127.0.0.2 and so on; None: nobody listens there."""
    async with contextlib.AsyncExitStack() as stack:
        first = FakeMx(scripts[0], **options)
        await stack.enter_async_context(first)
        made = [first]
        for number, script in enumerate(scripts[1:], start=2):
            host = FakeMx(script, address=f"127.0.0.{number}", port=first.port, **options)
            if script is not None:
                await stack.enter_async_context(host)
            made.append(host)
        if scripts[0] is None:
            first._server.close()
            await first._server.wait_closed()
        yield made


def direct(host: FakeMx, **changes: Any) -> MxRoute:
    fields: dict[str, Any] = {"port": host.port, "tls": HopTls.NONE}
    return MxRoute("direct", **fields | changes)


def relay(mx: FakeMx, **changes: Any) -> RelayRoute:
    fields: dict[str, Any] = {"host": "relay.test", "port": mx.port, "tls": HopTls.NONE}
    return RelayRoute("relay", **fields | changes)
