"""What a recipient's browser does with tracked mail: it shows the pixel, follows a link, unsubscribes."""

import email
import email.policy
import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tests.conftest import MakeDaemon
from tests.peers.browser import PERSON, PHONE, Site, Watched, chromium
from tests.peers.client import Answer, http_send, smtp_send
from tests.peers.daemon import SECRET, Daemon, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink
from tests.peers.status import status, wait_for_state

pytestmark = pytest.mark.slow

SENDER: Final = "Shop <news@shop.example.com>"
TO: Final = "bob.builder@example.org"
HEARD: Final = "opened,clicked,unsubscribed"
FORM: Final = "application/x-www-form-urlencoded"
BLUE: Final = "rgb(11, 87, 208)"  # the button, where the page's own style is let through
# Words that are markup, scripts or directions to who does not escape them.
PAYLOADS: Final = (
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg/onload=alert`1`>",
    '"><script>alert(1)</script>',
    "'><script>alert(1)</script>",
    '" autofocus onfocus=alert(1) x="',
    "<iframe src=javascript:alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<math><mi xlink:href=javascript:alert(1)>x",
    "<a href=javascript:alert(1)>x</a>",
    "<form action=javascript:alert(1)><input type=submit>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<base href=//evil.example.net/>",
    "<link rel=stylesheet href=//evil.example.net/x.css>",
    "<style>@import '//evil.example.net/x.css'</style>",
    "<object data=//evil.example.net/x>",
    "<embed src=//evil.example.net/x>",
    "</main></body><script>alert(1)</script>",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "javascript:alert(1)//",
    "\u202egro.elpmaxe\u202c <b>",
)


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message as its recipient has it."""

    id: str
    html: str
    text: str
    unsubscribe: str  # the URL

    @property
    def pixel(self) -> str:
        return _only(rf"{self._base}/t/o/[\w-]+\.gif", self.html)

    @property
    def links(self) -> list[str]:
        return re.findall(rf"{self._base}/t/c/[\w/-]+", self.html)

    @property
    def _base(self) -> str:
        return re.escape(self.unsubscribe.partition("/t/")[0])


class World:
    """A daemon that recipients reach, its next hop, and the shop that mail leads to."""

    def __init__(self, daemon: Daemon, sink: Sink, site: Site) -> None:
        self.daemon = daemon
        self.sink = sink
        self.site = site

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.daemon.http_port}"

    def send(self, **fields: Any) -> Delivered:
        mail = {"from": SENDER, "to": TO, "subject": "Sale", "track": True, "unsubscribe": True, **fields}
        answer = http_send(self.daemon.http_port, mail)
        assert answer.status == 201, answer.body
        return self.delivered(answer.id, mail["to"])

    def delivered(self, id_: str, to: str = TO) -> Delivered:
        wait_for_state(self.daemon, id_, "delivered")
        parsed = email.message_from_bytes(self.sink.by_recipient()[to][-1].content, policy=email.policy.default)
        parts = {part.get_content_type(): part.get_content() for part in parsed.walk() if not part.is_multipart()}
        way = re.search(r"<(https?://[^>]+)>", "".join(str(parsed["List-Unsubscribe"]).split()))
        assert way is not None, parsed.items()
        return Delivered(id_, parts.get("text/html", ""), parts.get("text/plain", ""), way[1])

    def counts(self, id_: str) -> tuple[int, int]:
        """Openings and clicks of people."""
        data = status(self.daemon, id_).body["data"]
        return data["opens"], data["clicks"]

    def events(self, id_: str) -> list[dict[str, Any]]:
        """What was heard of the message since it was delivered."""
        data = self.get(f"/api/v1/emails/{id_}/events?types={HEARD}").body["data"]
        return [{"type": event["type"], **event["data"]} for event in data]

    def wait_for(self, id_: str, *types: str) -> list[dict[str, Any]]:
        """Until exactly these were heard, in this order."""
        wanted = [f"email.{type_}" for type_ in types]
        wait_until(lambda: [event["type"] for event in self.events(id_)] == wanted, f"{wanted} of {id_}")
        return self.events(id_)

    def get(self, path: str) -> Answer:
        """Of the API."""
        answer = fetch(self.url + path, headers={"Authorization": f"Bearer {SECRET}"})
        return Answer(answer.status, answer.headers, json.loads(answer.body))


def fetch(url: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    """As a program does it: no redirect is followed; `body` is bytes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, url.removeprefix(f"{parts.scheme}://{parts.netloc}"), headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()


def _only(pattern: str, text: str) -> str:
    (found,) = re.findall(pattern, text)
    return str(found)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Sink() as sink, Site() as site:
        site.pages["/sale?a=1&b=2"] = "<title>Sale</title><h1>Everything must go</h1>"
        daemon = Daemon(tmp_path_factory.mktemp("browser") / "gw", {})
        at = f"127.0.0.1:{daemon.http_port}"
        http_section = {"listeners": [{"listen": at, "tls": "none"}], "admin": at, "public_url": f"http://{at}"}
        daemon.write_config({**relay_to(sink.port), "http": http_section})
        with daemon:
            yield World(daemon, sink, site)


def hosts(watched: Watched) -> set[str]:
    return {urlsplit(url).netloc for url in watched.asked if not url.startswith("data:")}


def test_a_person_opens_follows_and_unsubscribes(world: World, browser: Browser) -> None:
    target = f"{world.site.url}/sale?a=1&b=2"
    html = f"""<h1>Sale</h1><p><a id="sale" href="{target.replace("&", "&amp;")}">All of it</a>
        <a id="write" href="mailto:help@shop.example.com?subject=x">write</a> <a id="up" href="#top">up</a></p>"""
    mail = world.send(html=html)
    watched = Watched.open(browser, java_script_enabled=False, **PHONE)
    page = watched.context.new_page()

    world.site.pages["/mail"] = mail.html
    page.goto(f"{world.site.url}/mail")
    (opened,) = world.wait_for(mail.id, "opened")
    assert (opened["recipient"], opened.get("machine", "")) == (TO, "")
    assert (opened["client"], opened["user_agent"]) == ("127.0.0.1", PERSON)
    assert page.locator("#write").get_attribute("href") == "mailto:help@shop.example.com?subject=x"
    assert page.locator("#up").get_attribute("href") == "#top"

    page.click("#sale")
    page.wait_for_url(target)
    assert page.title() == "Sale"
    clicked = world.wait_for(mail.id, "opened", "clicked")[1]
    assert (clicked["url"], clicked.get("machine", "")) == (target, "")
    assert world.site.seen[-1] == ("/sale?a=1&b=2", "")  # nobody learns from which mail
    assert world.counts(mail.id) == (1, 1)

    page.goto(mail.unsubscribe)
    assert page.title() == "Unsubscribe"
    assert "all mail from the sender shop.example.com to b•••@example.org" in page.inner_text("p")
    button = page.locator("input[type=submit]")
    box = button.bounding_box()
    assert box is not None
    assert box["height"] >= 44
    assert box["x"] + box["width"] <= PHONE["viewport"]["width"]
    assert len(world.events(mail.id)) == 2  # nothing happened yet
    button.click()
    page.wait_for_selector("text=You are unsubscribed")
    assert page.url == mail.unsubscribe
    unsubscribed = world.wait_for(mail.id, "opened", "clicked", "unsubscribed")[2]
    assert (unsubscribed["recipient"], unsubscribed.get("tag", "")) == (TO, "")

    again = http_send(world.daemon.http_port, {"from": SENDER, "to": TO, "subject": "Again", "text": "x"})
    assert (again.status, again.body["error"]["code"]) == (422, "recipient_suppressed")
    assert watched.context.cookies() == []
    assert watched.dialogs == []
    assert hosts(watched) == {urlsplit(world.url).netloc, urlsplit(world.site.url).netloc}
    watched.context.close()


def test_programs_are_told_and_not_counted(world: World, browser: Browser) -> None:
    target = f"{world.site.url}/sale?a=1&b=2"
    mail = world.send(to="carl@example.org", html=f'<a href="{target.replace("&", "&amp;")}">x</a>')
    (link,) = mail.links
    assert fetch(mail.pixel, "HEAD", {"User-Agent": PERSON}).status == 200
    assert fetch(link, "HEAD", {"User-Agent": PERSON}).headers["Location"] == target
    assert fetch(link, headers={"User-Agent": "Slackbot-LinkExpanding 1.0"}).status == 302
    page = browser.new_page()  # as headless Chromium says itself
    page.goto(link)
    assert page.title() == "Sale"
    page.close()
    heard = world.wait_for(mail.id, "opened", "clicked", "clicked", "clicked")
    assert [event["machine"] for event in heard] == ["HEAD", "HEAD", "slack", "headless-browser"]
    assert world.counts(mail.id) == (0, 0)
    for method in ("GET", "HEAD"):  # a scanner follows this link, too
        assert fetch(mail.unsubscribe, method).status == 200
    assert world.send(to="carl@example.org", html="x").id


def test_smtp_mail_by_its_header_fields(world: World) -> None:
    target = f"{world.site.url}/sale?a=1&b=2"
    content = (
        "From: news@shop.example.com\r\nTo: dora@example.org\r\nSubject: Sale\r\nMIME-Version: 1.0\r\n"
        "X-Gateway-Track: clicks\r\nX-Gateway-Unsubscribe: news\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
        f'<p><a href="{target.replace("&", "&amp;")}">Sale</a></p>\r\n'
    )
    id_ = smtp_send(world.daemon.smtp_port, "news@shop.example.com", ["dora@example.org"], content.encode())
    mail = world.delivered(id_, "dora@example.org")
    assert "/t/o/" not in mail.html
    assert fetch(mail.links[0], headers={"User-Agent": PERSON}).headers["Location"] == target
    way = urlsplit(mail.unsubscribe)
    connection = http.client.HTTPConnection(way.netloc, timeout=30)
    connection.request("POST", way.path, b"List-Unsubscribe=One-Click", {"Content-Type": FORM})
    assert connection.getresponse().status == 200
    connection.close()
    assert world.wait_for(id_, "clicked", "unsubscribed")[1]["tag"] == "news"
    plain = {"from": SENDER, "to": "dora@example.org", "subject": "x", "text": "x"}
    assert http_send(world.daemon.http_port, {**plain, "tags": ["news"]}).status == 422
    assert http_send(world.daemon.http_port, plain).status == 201


def test_no_word_of_a_mail_is_markup_on_the_page(world: World, browser: Browser) -> None:
    watched = Watched.open(browser)
    page = watched.context.new_page()
    for number, payload in enumerate(PAYLOADS):
        mail = world.send(to=f"eve{number}@example.org", html="x", unsubscribe={"tag": payload}, tags=[payload])
        page.goto(mail.unsubscribe)
        assert page.locator("bdi").first.inner_text().split() == payload.split()
        assert page.locator("main *").count() == 10
        assert page.locator("input[type=submit]").evaluate("b => getComputedStyle(b).backgroundColor") == BLUE
        page.click("input[type=submit]")
        page.wait_for_selector("text=You are unsubscribed")
        assert page.locator("bdi").first.inner_text().split() == payload.split()
    assert watched.dialogs == []
    assert hosts(watched) == {urlsplit(world.url).netloc}
    watched.context.close()


def test_what_needs_a_public_url_is_refused_without_one(make_daemon: MakeDaemon) -> None:
    with Sink() as sink, make_daemon(relay_to(sink.port)) as daemon:
        for wish in ({"track": True}, {"unsubscribe": "news"}):
            answer = http_send(daemon.http_port, {"from": SENDER, "to": TO, "subject": "x", "text": "x", **wish})
            assert (answer.status, answer.body["error"]["code"]) == (422, "not_supported")
            assert "http.public_url" in answer.body["error"]["message"]
