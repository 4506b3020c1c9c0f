"""Unsubscribing by one click: what changes something, and what does not (RFC 8058)."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import unsubscribeform, unsubscribepage
from gateway.api.trackwriter import MOST_A_MINUTE
from gateway.api.unsubscribeform import MAX_BYTES
from gateway.config import Config
from gateway.errors import StoreError
from gateway.events import EventType
from gateway.store.offers import Offer
from gateway.store.queue import Heard
from gateway.tokens import Purpose, Subject
from tests.api.conftest import Client, Reply
from tests.api.visiting import BOB, BROWSER, NOW, TOKENS, Desk, leave, visited

URLENCODED: Final = "application/x-www-form-urlencoded"
ONE_CLICK: Final = b"List-Unsubscribe=One-Click"
MULTIPART: Final = "multipart/form-data; boundary=xYz"
PARTS: Final = b'--xYz\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--xYz--\r\n'


@pytest.fixture
async def desk(config: Config) -> AsyncIterator[Desk]:
    async with visited(config) as made:
        yield made


async def post(desk: Desk, body: bytes = ONE_CLICK, content_type: str = URLENCODED, path: str = "") -> Reply:
    return await desk.api.call("POST", path or leave(), body, key=None, Content_Type=content_type, User_Agent=BROWSER)


def is_a_page(reply: Reply) -> None:
    """Nothing of it is loaded from anywhere, kept anywhere, or run."""
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store, private"
    assert reply.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert reply.headers["x-frame-options"] == "DENY"
    assert not {"set-cookie", "location", "refresh"} & reply.headers.keys()
    text = reply.body.decode()
    assert '<html lang="en">' in text
    assert not re.search(r"(?i)<script|<img|<link|<iframe|\bsrc=|\bhref=|\bon\w+=|url\(|@import|https?://", text)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (ONE_CLICK, URLENCODED),
        (ONE_CLICK, f"{URLENCODED}; charset=UTF-8"),
        (b"x=1&" + ONE_CLICK, URLENCODED),
        (ONE_CLICK + b"\r\n", URLENCODED),
        (PARTS, MULTIPART),
        (PARTS, 'Multipart/Form-Data; boundary="xYz"'),
        (b'--xYz\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' + PARTS, MULTIPART),
    ],
)
async def test_one_click(desk: Desk, body: bytes, content_type: str) -> None:
    reply = await post(desk, body, content_type)
    assert reply.status == 200
    is_a_page(reply)
    assert b"You are unsubscribed" in reply.body
    assert desk.memory.heard == [
        Heard(
            message=BOB.message,
            recipient=BOB.recipient,
            type=EventType.UNSUBSCRIBED,
            at=NOW,
            client="127.0.0.1",
            user_agent=BROWSER,
        )
    ]


async def test_looking_changes_nothing(desk: Desk) -> None:
    """Scanners follow every link of a mail."""
    for method in ("GET", "HEAD", "GET"):
        reply = await desk.api.call(method, leave(), key=None)
        assert reply.status == 200
    is_a_page(reply)
    assert reply.body.count(b"<form method=") == 1
    assert b'<input type="submit" value="Unsubscribe">' in reply.body
    for query in ("?List-Unsubscribe=One-Click", "?x"):
        await desk.api.call("GET", leave() + query, key=None)
    assert desk.memory.heard == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", URLENCODED),
        (b"List-Unsubscribe=yes", URLENCODED),
        (b"list-unsubscribe=One-Click", URLENCODED),
        (b"\xff" + ONE_CLICK, URLENCODED),
        (b"a&" * 20 + ONE_CLICK, URLENCODED),
        (ONE_CLICK, MULTIPART),
        (PARTS, "multipart/form-data"),
        (PARTS, f'{MULTIPART}; a="{";" * 300}"'),
        (PARTS, URLENCODED),
        (PARTS.replace(b"One-Click", b"No"), MULTIPART),
        (PARTS.replace(b'"List-Unsubscribe"', b'"Other"'), MULTIPART),
    ],
)
async def test_another_form_is_asked_again(desk: Desk, body: bytes, content_type: str) -> None:
    reply = await post(desk, body, content_type)
    assert reply.status == 400
    is_a_page(reply)
    assert b"<form method=" in reply.body
    assert desk.memory.heard == []


async def test_it_may_come_again(desk: Desk) -> None:
    assert [(await post(desk)).status for _ in range(3)] == [200, 200, 200]
    for _ in range(MOST_A_MINUTE - 3):
        await post(desk)
    reply = await post(desk)
    assert (reply.status, reply.headers["retry-after"]) == (429, "60")
    assert len(desk.memory.heard) == MOST_A_MINUTE


async def test_from_one_tag_only(config: Config) -> None:
    async with visited(config, scope="news") as desk:
        page = await desk.api.call("GET", leave(), key=None)
        assert (
            b"mail of the kind <b><bdi>news</bdi></b> from the sender <b><bdi>shop.example.com</bdi></b>" in page.body
        )
        assert (await post(desk)).status == 200
        assert [heard.tag for heard in desk.memory.heard] == ["news"]


async def test_the_page_says_which_mail_and_not_whose(desk: Desk) -> None:
    for reply in (await desk.api.call("GET", leave(), key=None), await post(desk)):
        text = reply.body.decode()
        assert "all mail from the sender <b><bdi>shop.example.com</bdi></b> to <bdi>b•••@example.org</bdi>" in text
        assert "bob" not in text
        assert "news@" not in text


def test_how_an_address_is_masked() -> None:
    masked = {address: unsubscribepage.masked(address) for address in ("a@b.example", "ab@c.example", "abc@d.example")}
    assert masked == {
        "a@b.example": "•••@b.example",
        "ab@c.example": "•••@c.example",
        "abc@d.example": "a•••@d.example",
    }


def test_what_comes_from_mail_is_escaped() -> None:
    offer = Offer(1, 2, "<script>alert(1)</script>", 'a@"><b>.example', '"<i>"@<u>.example')
    for answer in (unsubscribepage.ask(offer), unsubscribepage.done(offer)):
        assert not re.search(rb"<script|<i>|<u>|<b>\.", answer.body)
        assert b"&lt;script&gt;alert(1)&lt;/script&gt;" in answer.body


async def test_of_mail_that_is_gone_nobody_can_say_whose_it_was(desk: Desk) -> None:
    desk.memory.offers.clear()
    for reply in (await desk.api.call("GET", leave(), key=None), await post(desk)):
        assert reply.status == 410
        is_a_page(reply)
        assert b"nobody was unsubscribed" in reply.body
    assert desk.memory.heard == []


async def test_where_the_store_fails_it_is_not_said_to_be_done(desk: Desk) -> None:
    desk.memory.error = StoreError("the disk is on fire")
    reply = await post(desk)
    assert (reply.status, reply.headers["retry-after"]) == (503, "30")
    is_a_page(reply)
    assert b"fire" not in reply.body
    desk.memory.error = None
    assert (await post(desk)).status == 200


async def test_another_token_is_not_asked_for_in_the_store(desk: Desk) -> None:
    others = [
        TOKENS.link(Purpose.OPEN, BOB),
        TOKENS.link(Purpose.CLICK, BOB),
        TOKENS.local(Purpose.UNSUBSCRIBE, BOB),
        TOKENS.link(Purpose.UNSUBSCRIBE, Subject(7, 8))[:-1] + "~",
        "x",
    ]
    for token in others:
        for reply in (await desk.api.call("GET", f"/t/u/{token}", key=None), await post(desk, path=f"/t/u/{token}")):
            assert reply.status == 404
            is_a_page(reply)
    assert (desk.memory.asked, desk.memory.heard) == ([], [])


async def test_a_large_form_is_refused(desk: Desk) -> None:
    reply = await post(desk, b"x" * (MAX_BYTES + 1))
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    client = await Client.connect(desk.api.server)
    head = f"POST {leave()} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.writer.write(head.encode() + b"2000\r\n" + b"y" * 0x2000 + b"\r\n")
    assert (await client.read()).status == 413
    await client.close()
    assert (await post(desk, (ONE_CLICK + b"&x=").ljust(MAX_BYTES, b"x"))).status == 200


async def test_a_form_in_pieces(desk: Desk) -> None:
    client = await Client.connect(desk.api.server)
    head = f"POST {leave()} HTTP/1.1\r\nHost: x\r\nContent-Type: {URLENCODED}\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.writer.write(head.encode())
    for start in range(0, len(ONE_CLICK), 10):
        piece = ONE_CLICK[start : start + 10]
        client.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await client.writer.drain()
    client.writer.write(b"0\r\n\r\n")
    assert (await client.read()).status == 200
    await client.close()
    assert len(desk.memory.heard) == 1


@given(st.text(max_size=60) | st.just(MULTIPART) | st.just(URLENCODED), st.binary(max_size=300))
def test_no_form_raises(content_type: str, body: bytes) -> None:
    assert unsubscribeform.means_it(content_type, body) in {True, False}
    assert unsubscribeform.means_it(f"multipart/form-data; {content_type}", b"--x\r\n" + body) in {True, False}


async def test_a_public_url_may_have_a_path(config: Config) -> None:
    """The form leads to the page's own address, whatever a proxy made of it."""
    http = replace(config.http, public_url="https://mail.example.com/gateway")
    async with visited(replace(config, http=http)) as desk:
        reply = await desk.api.call("GET", leave(), key=None)
        assert b"action=" not in reply.body
