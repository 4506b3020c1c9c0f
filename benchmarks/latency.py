"""How long an acceptance takes, by HTTP and by SMTP, and how long the loop is away while large mail
passes."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.flow import SIZE, Shape, submit
from benchmarks.systems import RECIPIENT, SENDER
from tests.peers.client import HttpClient, SmtpClient, message_bytes

LARGE = 25_000_000
_PROBE_S = 0.002


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, and acceptances a second of all sessions together."""

    per_second: float
    p50_ms: float
    p99_ms: float


async def http(port: int, *, sessions: int, messages: int) -> Latency:
    """From the request to the 201, on kept connections."""
    text = "The quick brown fox jumps over the lazy dog, and then again.\n" * (SIZE // 61)
    body = json.dumps({"from": SENDER, "to": [RECIPIENT], "subject": "bench", "text": text}).encode()

    def session() -> Callable[[], Awaitable[float]]:
        client = HttpClient(port)

        async def one() -> float:
            began = time.perf_counter()
            status, answer = await client.post(body)
            if status != 201:
                raise RuntimeError(f"{status} {answer!r}")
            return time.perf_counter() - began

        return one

    return await _run(session, sessions, messages)


async def smtp(port: int, *, sessions: int, messages: int) -> Latency:
    """From the final dot to its 250, on kept connections."""
    content = message_bytes(RECIPIENT, sender=SENDER, size=SIZE)

    def session() -> Callable[[], Awaitable[float]]:
        client = SmtpClient(port, secret="")

        async def one() -> float:
            code, text = await client.send(SENDER, RECIPIENT, content)
            if code != 250:
                raise RuntimeError(f"{code} {text!r}")
            return client.dot_s

        return one

    return await _run(session, sessions, messages)


async def _run(session: Callable[[], Callable[[], Awaitable[float]]], sessions: int, messages: int) -> Latency:
    times: list[float] = []

    async def worker() -> None:
        one = session()
        times.extend([await one() for _ in range(messages // sessions)])

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(sessions):
            group.create_task(worker())
    took = time.perf_counter() - began
    times.sort()
    return Latency(len(times) / took, _at(times, 0.5), _at(times, 0.99))


def _at(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))] * 1000


async def loop_away_ms(http_port: int, smtp_port: int, *, messages: int) -> float:
    """The longest wait of a tiny request while messages of 25 MB pass, one after another, at both ends.

    With 0 messages: the same probe at rest for a second, which is what the machine itself adds.
    """
    client = HttpClient(http_port)
    longest = 0.0
    done = asyncio.Event()

    async def probe() -> None:
        nonlocal longest
        while not done.is_set():
            began = time.perf_counter()
            await client.request("GET", "/health/live")
            longest = max(longest, time.perf_counter() - began)
            await asyncio.sleep(_PROBE_S)

    async with asyncio.TaskGroup() as group:
        group.create_task(probe())
        if messages:
            await asyncio.to_thread(submit, smtp_port, Shape(True, 1, messages), size=LARGE)
        await asyncio.sleep(1.0)  # the last one is still on its way out
        done.set()
    client.close()
    return longest * 1000
