"""Clients that keep submitting by both doors while the daemon comes and goes, and note every answer.

A message is submitted once: what was not acknowledged is not sent again, so a second arrival is the
daemon's doing. Each message has a recipient of its own, which is its name everywhere.
"""

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from tests.peers.client import ACK_HTTP, ACK_SMTP, HttpClient, SmtpClient, message_bytes, message_json
from tests.peers.process import wait_until

_PAUSE_S = 0.05  # before a worker knocks again at a daemon that is away


@dataclass(slots=True)
class Notes:
    """What the clients saw, by recipient."""

    acknowledged: dict[str, str] = field(default_factory=dict)  # -> message id
    refused: dict[str, str] = field(default_factory=dict)  # -> the reply
    unanswered: set[str] = field(default_factory=set)  # the daemon went away during the transaction
    accept_s: list[float] = field(default_factory=list)  # how long each acknowledgement took


class Load:
    """`with Load(http_port, smtp_port) as load`: submits until `count` messages or the end of the block.

    `pause_s` is waited after each message of each of the workers.
    """

    def __init__(
        self,
        http_port: int,
        smtp_port: int,
        *,
        count: int = 1_000_000,
        http: int = 4,
        smtp: int = 4,
        pause_s: float = 0.005,
        sender: str = "shop@example.com",
    ) -> None:
        self.notes = Notes()
        self._ports = http_port, smtp_port
        self._workers = http, smtp
        self._numbers = iter(range(count))
        self._pause_s = pause_s
        self._sender = sender
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> Notes:
        """Let every worker finish its message."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a client waits for an answer that does not come"
        return self.notes

    def finish(self, timeout_s: float = 60.0) -> Notes:
        """Wait until all `count` messages were submitted."""
        self._thread.join(timeout_s)
        return self.stop()

    def wait_for(self, more: int, timeout_s: float = 60.0) -> None:
        """Wait for so many further acknowledgements."""
        wanted = len(self.notes.acknowledged) + more
        wait_until(lambda: len(self.notes.acknowledged) >= wanted, f"{more} more acknowledgements", timeout_s)

    async def _run(self) -> None:
        http, smtp = self._workers
        async with asyncio.TaskGroup() as group:
            for _ in range(http):
                group.create_task(self._worker(_HttpDoor(HttpClient(self._ports[0]), self._sender)))
            for _ in range(smtp):
                group.create_task(self._worker(_SmtpDoor(SmtpClient(self._ports[1]), self._sender)))

    async def _worker(self, door: "_HttpDoor | _SmtpDoor") -> None:
        for number in self._numbers:
            if self._stop.is_set():
                break
            recipient = f"m{number:06d}@example.net"
            began = time.monotonic()
            try:
                id_, reply = await asyncio.wait_for(door.submit(recipient), 30)
            except (OSError, EOFError, ConnectionError):
                self.notes.unanswered.add(recipient)
                door.client.close()
                await asyncio.sleep(_PAUSE_S)
                continue
            if id_:
                self.notes.acknowledged[recipient] = id_
                self.notes.accept_s.append(time.monotonic() - began)
            else:
                self.notes.refused[recipient] = reply
                door.client.close()
            await asyncio.sleep(self._pause_s)
        door.client.close()


@dataclass(slots=True)
class _HttpDoor:
    client: HttpClient
    sender: str

    async def submit(self, recipient: str) -> tuple[str, str]:
        """(message id, "") or ("", the refusal)."""
        status, body = await self.client.post(json.dumps(message_json(recipient, sender=self.sender)).encode())
        found = ACK_HTTP.search(body)
        return (found[1].decode(), "") if status == 201 and found else ("", f"{status} {body!r}")


@dataclass(slots=True)
class _SmtpDoor:
    client: SmtpClient
    sender: str

    async def submit(self, recipient: str) -> tuple[str, str]:
        """(message id, "") or ("", the refusal)."""
        content = message_bytes(recipient, sender=self.sender)
        code, text = await self.client.send(self.sender, recipient, content)
        found = ACK_SMTP.search(text)
        return (found[1].decode(), "") if code == 250 and found else ("", f"{code} {text!r}")
