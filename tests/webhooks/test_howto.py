"""The receiver of docs/howto/webhooks.md, as it stands there, told by us."""

import asyncio
import os
import sys
from pathlib import Path

from gateway.manage.webhooks import WebhookWish
from gateway.runtime import Clock
from tests.docs import blocks
from tests.peers.process import free_port
from tests.webhooks.world import open_world

SECRET = "whsec_" + "A" * 43 + "="


async def test_the_receiver_verifies_and_takes_each_event_once(tmp_path: Path) -> None:
    (block,) = [one for one in blocks.of(blocks.ROOT / "docs/howto/webhooks.md") if one.kind == "python"]
    port = free_port()
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        block.text,
        env={**os.environ, "WEBHOOK_SECRET": SECRET, "PORT": str(port)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert program.stdout is not None
    try:
        async with open_world(tmp_path, clock=Clock()) as world, asyncio.timeout(60):
            made = await world.manager.add("acme", WebhookWish(url=f"http://127.0.0.1:{port}/", secret=SECRET))
            while made["state"] != "active":  # it is starting
                made = await world.manager.test("acme", made["id"])
            assert await program.stdout.readline() == b"webhook.ping None\n"
            await world.accept("ann@example.com")
            assert await program.stdout.readline() == b"email.accepted ann@example.com\n"
            await world.settle()
            assert await program.stdout.readline() == b"email.delivered ann@example.com\n"
            wrong = await world.manager.rotate(None, made["id"], None, 0)
            tested = await world.manager.test("acme", wrong["id"])
            assert tested["test"]["status"] == 401
    finally:
        program.kill()
        await program.wait()
