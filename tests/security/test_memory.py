"""Many large messages at once: the process stays within its budget, and whoever is told 2xx is queued."""

import asyncio
import base64
import json
import os
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.client import ACK_HTTP, ACK_SMTP, SmtpClient, message_bytes
from tests.peers.daemon import ROOT, Daemon, broken_twin
from tests.peers.status import status
from tests.security.growth import growth
from tests.security.rawhttp import head

pytestmark = pytest.mark.slow

BY_HTTP = 200
BY_SMTP = 30
SIZE = 20_000_000
PART = 256 * 1024
LONGEST_S = 240.0
BUDGET_MB = 256
BESIDES_MB = 150  # the process itself and all that is not content
SETTINGS = {
    "routes": {"here": {"type": "capture"}},
    "default_route": "here",
    "limits": {"buffers": f"{BUDGET_MB}MB", "connections_per_ip": 1000},
}

One = Callable[[], Awaitable[tuple[int, bytes]]]


@dataclass(frozen=True, slots=True)
class Outcome:
    answers: Counter[int]
    lost: list[str]  # ids that were given out and name nothing
    peak_mb: float


def _json(size: int) -> bytes:
    """A message that is `size` octets when it is composed, most of it an attachment."""
    content = base64.b64encode(os.urandom(int(size * 57 / 78))).decode()
    mail = {
        "from": "shop@example.com",
        "to": ["ann@example.net"],
        "subject": "Large",
        "text": "See the file.",
        "attachments": [{"filename": "large.bin", "content": content}],
    }
    return json.dumps(mail).encode()


def _by_http(port: int) -> One:
    body = memoryview(_json(SIZE))

    async def send() -> tuple[int, bytes]:
        """Reads while it writes, and ends with the answer: a copy of the body for each would be some gigabytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(_answer(reader))
            with suppress(ConnectionError):
                writer.write(head(f"Content-Length: {len(body)}"))
                for at in range(0, len(body), PART):
                    if answer.done():
                        break
                    writer.write(body[at : at + PART])
                    await writer.drain()
        writer.transport.abort()
        return answer.result()

    return send


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    fields = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", fields)
    assert length is not None
    return int(fields.split(b" ", 2)[1]), await reader.readexactly(int(length[1]))


def _by_smtp(port: int) -> One:
    content = message_bytes("ann@example.net", size=SIZE)

    async def send() -> tuple[int, bytes]:
        client = SmtpClient(port)
        try:
            return await client.send("shop@example.com", "ann@example.net", content)
        finally:
            client.close()

    return send


def _at_once(directory: Path, *, http: int, smtp: int, source: Path = ROOT) -> Outcome:
    with Daemon(directory, SETTINGS, source=source) as daemon:
        doors = [_by_http(daemon.http_port)] * http + [_by_smtp(daemon.smtp_port)] * smtp

        async def all_of_them() -> list[tuple[int, bytes]]:
            async with asyncio.timeout(LONGEST_S):
                return await asyncio.gather(*(send() for send in doors))

        with growth(daemon.pid) as seen:
            answers = asyncio.run(all_of_them())
        given = [
            found[1].decode() for _, text in answers for ack in (ACK_HTTP, ACK_SMTP) if (found := ack.search(text))
        ]
        lost = [id_ for id_ in given if not _is_whole(daemon, id_)]
        assert daemon.stop() == 0
    codes = Counter(code for code, _ in answers)
    assert len(set(given)) == codes[201] + codes[250]
    return Outcome(codes, lost, seen.peak)


def _is_whole(daemon: Daemon, id_: str) -> bool:
    answer = status(daemon, id_)
    return answer.status == 200 and answer.body["data"]["recipients"][0]["state"] == "captured"


def test_many_large_messages_stay_within_the_budget(tmp_path: Path) -> None:
    outcome = _at_once(tmp_path / "gw", http=BY_HTTP, smtp=BY_SMTP)
    print(outcome)
    assert outcome.peak_mb <= BUDGET_MB + BESIDES_MB
    assert set(outcome.answers) <= {201, 503, 250, 452}  # taken, or told to come again
    assert outcome.answers[201] > 0
    assert outcome.answers[250] > 0
    assert outcome.lost == []


def test_a_budget_that_always_has_room_is_seen(tmp_path: Path) -> None:
    twin = broken_twin(
        tmp_path / "twin", "budget.py", "self._large or self.held + count > self.most_large", "self._large"
    )
    outcome = _at_once(tmp_path / "gw", http=30, smtp=0, source=twin)
    assert outcome.peak_mb > BUDGET_MB + BESIDES_MB
