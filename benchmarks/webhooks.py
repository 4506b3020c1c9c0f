"""What a bad webhook endpoint costs mail (D19): how long acceptances take and what processor time a message does, with
no endpoint and with one that is dead, that never answers, and that takes everything.

    python -m benchmarks.webhooks [messages] [rounds]

The kinds take turns, so that a busy machine is busy for all of them; the median of the rounds counts.
"""

import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import latency
from tests.fakes.receiver import OK, Receiver, Request, status
from tests.peers.daemon import Daemon, relay_to
from tests.peers.process import cpu_s, descendants
from tests.peers.sink import Sink

KINDS = ("none", "dead", "hangs", "takes all")
SESSIONS = 8
SETTINGS: dict[str, Any] = {"webhooks": {"allow_http": True, "allow_networks": ["127.0.0.0/8"]}}


async def hang(_request: Request, _writer: object) -> bytes | None:
    await asyncio.Event().wait()
    return None


async def measure(kind: str, messages: int) -> tuple[float, float, float]:
    """(p50 and p99 of an acceptance in ms, processor ms a message until all of it is delivered)."""
    with tempfile.TemporaryDirectory() as directory, Sink() as sink:
        async with Receiver() as receiver:
            with Daemon(Path(directory) / "gw", relay_to(sink.port) | SETTINGS) as daemon:
                if kind != "none":
                    add = ("webhook", "add", receiver.url, "--account", "shop", "--json")
                    made = json.loads(await asyncio.to_thread(daemon.cli, *add))
                    assert made["state"] == "active"
                    if kind != "takes all":
                        receiver.answer = hang if kind == "hangs" else lambda _request, _writer: status(500)
                await latency.http(daemon.http_port, sessions=SESSIONS, messages=200)
                before = cpu_s(descendants(daemon.pid), reaped=True)
                found = await latency.http(daemon.http_port, sessions=SESSIONS, messages=messages)
                await asyncio.to_thread(sink.wait_for, messages + 200, 120)
                spent = cpu_s(descendants(daemon.pid), reaped=True) - before
                receiver.answer = lambda _request, _writer: OK
                return found.p50_ms, found.p99_ms, spent * 1000 / messages


async def main(messages: int, rounds: int) -> None:
    results: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            results[kind].append(await measure(kind, messages))
    print("endpoint     p50 ms   p99 ms   CPU ms a message")
    for kind, found in results.items():
        p50, p99, cpu = (statistics.median(one[index] for one in found) for index in range(3))
        print(f"{kind:<10} {p50:>8.1f} {p99:>8.1f} {cpu:>10.2f}")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    asyncio.run(main(*(given + [2000, 3][len(given) :])))
