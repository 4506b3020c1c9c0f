"""Links that were not made here (S10): 10,000 altered ones lead nowhere, tell nothing and never reach the store."""

import base64
import random
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from gateway.config import Config, Http, HttpListener, Listen
from gateway.tokens import SECRET_BYTES, Purpose, Subject, Tokens
from tests.api.conftest import Client
from tests.api.visiting import BOB, TOKENS, URL, leave, link, pixel, visited

pytestmark = pytest.mark.slow

COUNT: Final = 10_000
SAFE: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
EVIL: Final = "https://evil.example.net/"
FORM: Final = b"List-Unsubscribe=One-Click"


def altered(rng: random.Random) -> Iterator[tuple[str, str]]:
    """(kind of mutation, path), without end; none of them is one that was made here."""
    valid = [pixel(), link(), leave()]
    other = Tokens(rng.randbytes(SECRET_BYTES))
    kinds: dict[str, Callable[[str, random.Random], str]] = {
        "bit": _flipped,
        "character": _replaced,
        "cut": _cut,
        "longer": lambda path, rng: path + rng.choice(SAFE),
        "target": lambda _path, rng: f"{link().rpartition('/')[0]}/{_encoded(rng.choice((EVIL, URL + 'x', URL[:-1])))}",
        "token": lambda _path, _rng: f"{link(EVIL).rpartition('/')[0]}/{_encoded(URL)}",
        "purpose": lambda _path, rng: _of_another_purpose(rng),
        "subject": lambda _path, rng: f"/t/u/{_of_nobody(rng)}",
        "instance": lambda _path, rng: f"/t/c/{other.click(Subject(rng.getrandbits(40), 1), EVIL)}",
        "case": lambda path, _rng: path[:5] + path[5:].swapcase(),
    }
    while True:
        for kind, mutate in kinds.items():
            path = mutate(rng.choice(valid), rng)
            if path not in valid:
                yield kind, path


def _flipped(path: str, rng: random.Random) -> str:
    """One bit of what the token stands for, or of the target."""
    head, _, rest = path[1:].partition("/")[2].partition("/")
    dot = rest.removesuffix(".gif")
    parts = dot.split("/")
    at = rng.randrange(len(parts))
    raw = bytearray(base64.urlsafe_b64decode(parts[at] + "=" * (-len(parts[at]) % 4)))
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    parts[at] = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return f"/t/{head}/{'/'.join(parts)}{rest[len(dot) :]}"


def _replaced(path: str, rng: random.Random) -> str:
    at = rng.randrange(5, len(path))
    return path[:at] + rng.choice(SAFE) + path[at + 1 :]


def _cut(path: str, rng: random.Random) -> str:
    at = rng.randrange(5, len(path))
    return path[:at] + path[at + rng.randrange(1, 5) :]


def _of_another_purpose(rng: random.Random) -> str:
    letter, purpose = rng.choice((("o", Purpose.OPEN), ("u", Purpose.UNSUBSCRIBE), ("c", Purpose.CLICK)))
    token = TOKENS.link(rng.choice([one for one in Purpose if one is not purpose]), BOB)
    return {"o": f"/t/o/{token}.gif", "u": f"/t/u/{token}", "c": f"/t/c/{token}/{_encoded(URL)}"}[letter]


def _of_nobody(rng: random.Random) -> str:
    """A code of ours under other numbers."""
    raw = bytearray(base64.urlsafe_b64decode(TOKENS.link(Purpose.UNSUBSCRIBE, BOB)))
    raw[1:17] = rng.randbytes(16)
    return base64.urlsafe_b64encode(raw).decode()


def _encoded(url: str) -> str:
    return base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


async def test_no_altered_link_leads_anywhere() -> None:
    config = Config(hostname="mail.example.com", http=Http((HttpListener(Listen("127.0.0.1", 0)),)))
    rng = random.Random(10)
    kinds: dict[str, int] = {}
    async with visited(config) as desk:
        client = await Client.connect(desk.api.server)
        for kind, path in altered(rng):
            method = "POST" if path.startswith("/t/u/") and rng.random() < 0.5 else "GET"
            client.write(method, path, FORM if method == "POST" else b"")
            reply = await client.read()
            assert (reply.status, reply.headers.get("location")) == (404, None), (kind, path)
            kinds[kind] = kinds.get(kind, 0) + 1
            if sum(kinds.values()) == COUNT:
                break
        await client.close()
        assert (await desk.heard(), desk.memory.asked) == ([], [])
        assert len(kinds) == 10
        assert min(kinds.values()) > COUNT / 20
        # The same way with what was made here.
        assert (await desk.api.call("GET", link(), key=None)).status == 302
        assert (await desk.api.call("POST", leave(), FORM, key=None)).status == 200
        assert len(await desk.heard()) == 2
