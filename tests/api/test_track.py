"""The pixel and the links that lead over us: what is answered, and what is told of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from gateway.api import foreign, native, track
from gateway.api.track import PIXEL, location
from gateway.api.trackwriter import MOST_A_MINUTE, MOST_WAITING
from gateway.config import Config
from gateway.errors import StoreError
from gateway.events import EventType
from gateway.store.queue import Heard
from gateway.tokens import Purpose, Subject
from tests.api.conftest import Reply
from tests.api.visiting import BOB, BROWSER, NOW, TOKENS, URL, Desk, leave, link, pixel, visited


@pytest.fixture
async def desk(config: Config) -> AsyncIterator[Desk]:
    async with visited(config) as made:
        yield made


async def get(desk: Desk, path: str, method: str = "GET", **headers: str) -> Reply:
    headers.setdefault("User_Agent", BROWSER)
    return await desk.api.call(method, path, b"", key=None, **headers)


def is_private(reply: Reply) -> None:
    assert reply.headers["cache-control"] == "no-store, private"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in reply.headers


async def test_the_pixel_is_a_picture_and_an_opening(desk: Desk) -> None:
    reply = await get(desk, pixel())
    assert (reply.status, reply.headers["content-type"]) == (200, "image/gif")
    assert (len(reply.body), reply.body[:6], reply.body[6:10]) == (43, b"GIF89a", b"\1\0\1\0")
    is_private(reply)
    assert await desk.heard() == [
        Heard(
            message=BOB.message,
            recipient=BOB.recipient,
            type=EventType.OPENED,
            at=NOW,
            client="127.0.0.1",
            user_agent=BROWSER,
        )
    ]
    assert desk.visits("opened", "written") == 1


async def test_a_link_leads_on_and_is_a_click(desk: Desk) -> None:
    reply = await get(desk, link())
    assert (reply.status, reply.headers["location"]) == (302, URL)
    is_private(reply)
    assert reply.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert b'href="https://shop.example.com/sale?a=1&amp;b=2#top"' in reply.body
    (heard,) = await desk.heard()
    assert (heard.type, heard.url, heard.machine) == (EventType.CLICKED, URL, "")


@pytest.mark.parametrize("path", [pixel(), link()])
async def test_head_is_answered_as_get_and_is_no_person(desk: Desk, path: str) -> None:
    asked = await get(desk, path)
    reply = await get(desk, path, "HEAD")
    different = {"x-request-id", "date"}
    assert {name: value for name, value in reply.headers.items() if name not in different} == {
        name: value for name, value in asked.headers.items() if name not in different
    }
    assert (reply.status, reply.body) == (asked.status, b"")
    assert [heard.machine for heard in await desk.heard()] == ["", "HEAD"]


@pytest.mark.parametrize(
    ("headers", "opening", "click"),
    [
        ({"User_Agent": "Mozilla/5.0"}, "apple-mail-privacy-protection", "apple-mail-privacy-protection"),
        ({"User_Agent": "X (via ggpht.com GoogleImageProxy)"}, "", "gmail-image-proxy"),
        ({"User_Agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}, "slack", "slack"),
        ({"User_Agent": "curl/8.5.0"}, "program", "program"),
        ({"Sec_Purpose": "prefetch;prerender"}, "prefetch", "prefetch"),
        ({"User_Agent": ""}, "", ""),
    ],
)
async def test_known_programs_are_told_as_such(desk: Desk, headers: dict[str, str], opening: str, click: str) -> None:
    assert (await get(desk, pixel(), **headers)).body == PIXEL
    assert (await get(desk, link(), **headers)).status == 302
    assert [heard.machine for heard in await desk.heard()] == [opening, click]


async def test_behind_a_trusted_proxy_the_client_is_who_it_says(config: Config) -> None:
    http = replace(config.http, trusted_proxies=(ip_network("127.0.0.0/8"),))
    async with visited(replace(config, http=http)) as desk:
        await get(desk, pixel(), X_Forwarded_For="203.0.113.9")
        await get(desk, link(), X_Forwarded_For="40.107.3.4")
        assert [(heard.client, heard.machine) for heard in await desk.heard()] == [
            ("203.0.113.9", ""),
            ("40.107.3.4", "exchange-online-protection"),
        ]


async def test_a_user_agent_is_kept_short_and_printable(desk: Desk) -> None:
    await get(desk, pixel(), User_Agent="a\tb\u2028" + "x" * 2000)
    (heard,) = await desk.heard()
    assert heard.user_agent == "a?b?" + "x" * 508


OTHER = TOKENS.click(Subject(9, 9), "https://other.example.com/")


@pytest.mark.parametrize(
    "path",
    [
        "/t/",
        "/t/o",
        "/t/o/",
        "/t/o/x.gif",
        pixel().removesuffix(".gif"),
        pixel() + "/",
        pixel().replace("/o/", "/u/"),
        leave().replace("/u/", "/o/") + ".gif",
        f"/t/o/{TOKENS.link(Purpose.CLICK, BOB)}.gif",
        "/t/c/",
        link().rpartition("/")[0],
        link() + "/",
        link() + "/x",
        link() + "=",
        f"/t/c/{OTHER.partition('/')[0]}/{link().rpartition('/')[2]}",
        link("javascript:alert(1)"),
        link("data:text/html,x"),
        link("ftp://example.com/"),
        link("https:/example.com"),
        link("https://"),
        link("//example.com/"),
        link("/path"),
        link(""),
        "/t/x/y",
        "/t/o/%2e%2e/%00.gif",
    ],
)
async def test_what_was_not_made_here_is_not_there(desk: Desk, path: str) -> None:
    for method in ("GET", "HEAD"):
        reply = await get(desk, path, method)
        assert (reply.status, reply.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "location" not in reply.headers
        is_private(reply)
    assert await desk.heard() == []
    assert desk.memory.asked == []


@pytest.mark.parametrize(
    ("path", "allowed"), [(pixel(), "GET, HEAD"), (link(), "GET, HEAD"), (leave(), "GET, POST, HEAD")]
)
async def test_other_methods(desk: Desk, path: str, allowed: str) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", *(("POST",) if "POST" not in allowed else ())):
        reply = await get(desk, path, method)
        assert (reply.status, reply.headers["allow"]) == (405, allowed)
        assert b"<h1>" in reply.body
    assert await desk.heard() == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com/", "https://example.com/"),
        ("HTTP://EXAMPLE.com/a%20b?x=%2F#f", "HTTP://EXAMPLE.com/a%20b?x=%2F#f"),
        (" https://example.com/\t", "https://example.com/"),
        ("https://example.com/a\r\n b", "https://example.com/a%20b"),
        ("https://münchen.example/ü?q=ß", "https://m%C3%BCnchen.example/%C3%BC?q=%C3%9F"),
        ('https://example.com/"<>\\^`{|}', "https://example.com/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443/x"),
        ("https://u:p@example.com/", "https://u:p@example.com/"),
        ("https:example.com", None),
        ("https:///example.com", None),
        ("https://?x", None),
        ("mailto:a@example.com", None),
        ("java\nscript:alert(1)", None),
        ("", None),
    ],
)
def test_where_a_link_leads(url: str, expected: str | None) -> None:
    assert location(url) == expected


async def test_a_long_target_fits_a_request_line(desk: Desk) -> None:
    """Of 8,190 octets, as here and at most proxies; what is longer is no link of ours (message/tracking/links.py)."""
    url = "https://example.com/?".ljust(6000, "x")
    path = link(url)
    assert len(f"GET /a-path-of-the-public-url{path} HTTP/1.1") < 8190
    assert (await get(desk, path)).headers["location"] == url


async def test_no_injection_by_a_target(desk: Desk) -> None:
    reply = await get(desk, link("https://example.com/\r\nSet-Cookie: a=b\x00"))
    assert reply.headers["location"] == "https://example.com/Set-Cookie:%20a=b%00"
    assert "set-cookie" not in reply.headers


async def test_nobody_waits_for_the_store(desk: Desk) -> None:
    desk.memory.gate = asyncio.Event()
    for _ in range(3):
        assert (await get(desk, link())).status == 302
    assert desk.memory.heard == []
    desk.memory.gate.set()
    assert len(await desk.heard()) == 3


@pytest.mark.parametrize("error", [StoreError("the disk is on fire"), ValueError("a fault of ours")])
async def test_a_store_that_fails_breaks_no_link(desk: Desk, error: Exception) -> None:
    desk.memory.error = error
    assert (await get(desk, link())).status == 302
    assert (await get(desk, pixel())).body == PIXEL
    assert await desk.heard() == []
    assert (desk.visits("clicked", "lost"), desk.visits("opened", "lost")) == (1, 1)
    desk.memory.error = None
    assert (await get(desk, link())).status == 302
    assert len(await desk.heard()) == 1


async def test_of_one_recipient_a_bounded_number_is_written_a_minute(desk: Desk) -> None:
    for _ in range(MOST_A_MINUTE + 5):
        assert (await get(desk, link())).status == 302
    await get(desk, link(), "HEAD")
    await get(desk, pixel())
    await get(desk, link(subject=Subject(7, 9)))
    assert len(await desk.heard()) == MOST_A_MINUTE + 3
    assert desk.visits("clicked", "too_many") == 5
    assert desk.visits("clicked", "unchanged") == 1  # nobody of that number is in the store
    desk.monotonic[0] += 60
    await get(desk, link())
    assert len(await desk.heard()) == MOST_A_MINUTE + 4


async def test_what_waits_is_bounded(desk: Desk) -> None:
    desk.memory.gate = asyncio.Event()
    for number in range(MOST_WAITING + 200):
        desk.writer.note(Heard(message=number, recipient=1, type=EventType.OPENED, at=NOW))
        if number == 0:
            await asyncio.sleep(0)  # the first is in the hand of who writes
    assert desk.visits("opened", "lost") in {199, 200}
    desk.memory.gate.set()
    assert len(await desk.heard()) == MOST_WAITING + 200 - desk.visits("opened", "lost")


async def test_while_it_stops_links_still_lead_on(desk: Desk) -> None:
    desk.api.server._service.stopping = True
    assert (await get(desk, link())).status == 302
    assert (await get(desk, "/api/v1/me")).status == 503


def test_no_dialect_has_these_paths() -> None:
    for dialect in (native.DIALECT, *foreign.DIALECTS):
        paths = [operation.path for operation in dialect.operations]
        assert not any(f"{path}/".startswith(track.BEGINNING) for path in (*paths, *dialect.owns))
        assert dialect.name != track.BEGINNING.strip("/")
