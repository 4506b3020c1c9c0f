"""S8: whatever a webhook's URL says, nothing of ours is connected to but what the configuration allows.

Listeners on loopback count connections, one of them on an address that is allowed: the guard is on all the time.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme
from yarl import URL

from gateway import netguard
from gateway.config import Webhooks
from gateway.netguard import Guard, GuardedResolver, UrlError
from gateway.resolver import Resolver
from gateway.runtime import Clock
from gateway.store.webhook import Format
from gateway.webhooks.formats import Payload
from gateway.webhooks.schedule import Outcome
from gateway.webhooks.sender import Sender
from tests.fakes.dns import FakeDns
from tests.fakes.receiver import OK, Receiver, status

ALLOWED = "127.8.8.8"
CONFIG = Webhooks(allow_http=True, allow_networks=(ip_network(f"{ALLOWED}/32"),), timeout_s=5)
PAYLOAD = Payload("evt_1", "webhook.ping", b"{}")
SECRET = "whsec_" + "A" * 43 + "="
ZONE = f"""
    good.test A {ALLOWED}
    inside.test A 127.0.0.1
    inside6.test AAAA ::1
    metadata.test A 169.254.169.254
    mapped.test AAAA ::ffff:7f00:1
    nat64.test AAAA 64:ff9b::7f00:1
    sixtofour.test AAAA 2002:7f00:1::
    mixed.test A 127.0.0.1
    mixed.test A 10.0.0.1
    alias.test CNAME inside.test
    localhost A 127.0.0.1
    127.1 A 127.0.0.1
    2130706433 A 127.0.0.1
    0x7f000001 A 127.0.0.1
    foo.localhost A 127.0.0.1
    xn--0caaf.test A 127.0.0.1
"""
# {} is the port of a listener on each of the addresses.
FORMS = [
    "http://127.0.0.1:{}/",
    "http://127.0.0.2:{}/",
    "http://127.1:{}/",
    "http://127.0.1:{}/",
    "http://2130706433:{}/",
    "http://017700000001:{}/",
    "http://0177.0.0.1:{}/",
    "http://0177.0.0.01:{}/",
    "http://0x7f000001:{}/",
    "http://0x7f.0.0.1:{}/",
    "http://0x7f.1:{}/",
    "http://0:{}/",
    "http://0.0.0.0:{}/",
    "http://127.0.0.1.:{}/",
    "http://127.000.000.001:{}/",
    "http://[::1]:{}/",
    "http://[::]:{}/",
    "http://[0:0:0:0:0:0:0:1]:{}/",
    "http://[::ffff:127.0.0.1]:{}/",
    "http://[::ffff:7f00:1]:{}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{}/",
    "http://[::127.0.0.1]:{}/",
    "http://[64:ff9b::7f00:1]:{}/",
    "http://[64:ff9b::127.0.0.1]:{}/",
    "http://[2002:7f00:1::]:{}/",
    "http://[::1%25lo]:{}/",
    "http://[fe80::1%25lo]:{}/",
    "http://localhost:{}/",
    "http://localhost.:{}/",
    "http://LOCALHOST:{}/",
    "http://foo.localhost:{}/",
    "http://good.test@127.0.0.1:{}/",
    "http://127.0.0.1:{}@127.0.0.1:{}/",
    "http://good.test:80@127.0.0.1:{}/",
    "http://127.0.0.1%2f@good.test:{}/",
    "http://127.0.0.1:{}#@good.test/",
    "http://127.0.0.1:{}\\@good.test/",
    "http://%31%32%37.0.0.1:{}/",
    "http://１２７.0.0.1:{}/",
    "http://127。0。0。1:{}/",
    "http://①②⑦.0.0.1:{}/",
    "http://ⓛocalhost:{}/",
    "http://inside.test:{}/",
    "http://inside.test.:{}/",
    "http://inside6.test:{}/",
    "http://mapped.test:{}/",
    "http://nat64.test:{}/",
    "http://sixtofour.test:{}/",
    "http://mixed.test:{}/",
    "http://alias.test:{}/",
    "http:127.0.0.1:{}/",
    "http:///127.0.0.1:{}/",
    "http://\t127.0.0.1:{}/",
    " http://127.0.0.1:{}/",
    "http://127.0.0.1 :{}/",
]


@dataclass(frozen=True, slots=True)
class Place:
    """What listens on one port of many addresses, and who asks."""

    port: int
    counts: dict[str, int]
    dns: FakeDns

    def sender(self, config: Webhooks = CONFIG, ca: Path | None = None) -> Sender:
        return Sender(config, Resolver([self.dns.listen]), Clock(), ca=ca)

    @property
    def guarded(self) -> int:
        return sum(count for address, count in self.counts.items() if address != ALLOWED)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    counts: dict[str, int] = {}
    async with contextlib.AsyncExitStack() as stack:
        dns = await stack.enter_async_context(FakeDns(ZONE, ttl=0))
        port = 0
        for address in (ALLOWED, "127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"):
            counts[address] = 0

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: str = address) -> None:
                counts[to] += 1
                writer.write(OK)
                await reader.read(1)
                writer.close()

            server = await asyncio.start_server(serve, address, port)
            port = server.sockets[0].getsockname()[1]
            stack.callback(server.close)
        yield Place(port, counts, dns)


async def test_s8_no_form_of_a_url_leads_to_what_is_guarded(place: Place) -> None:
    assert len(FORMS) >= 40
    sender = place.sender()
    for form in FORMS:
        url = form.replace("{}", str(place.port))
        answer = await sender.post(url, Format.NATIVE, PAYLOAD, [SECRET], attempt=1)
        assert not answer.delivered, url
    await sender.close()
    assert place.guarded == 0


async def test_s8_the_connection_is_guarded_where_the_url_was_not_looked_at(place: Place) -> None:
    """As if every look at the text of a URL had missed something."""
    guard = Guard(CONFIG.allow_networks)
    resolver = GuardedResolver(Resolver([place.dns.listen]), guard)
    async with netguard.session(resolver, guard, ssl.create_default_context(), timeout_s=5) as session:
        tried = 0
        for form in FORMS:
            with contextlib.suppress(Exception):
                asked = URL(form.replace("{}", str(place.port)))
                tried += 1
                async with session.post(asked, data=b"{}", allow_redirects=False):
                    raise AssertionError(form)
        assert tried > 30
    assert place.guarded == 0


async def test_s8_what_is_allowed_is_reached(place: Place) -> None:
    sender = place.sender()
    for host in ("good.test", ALLOWED):
        answer = await sender.post(f"http://{host}:{place.port}/", Format.NATIVE, PAYLOAD, [SECRET], attempt=1)
        assert answer.delivered, answer
    await sender.reconfigure(replace(CONFIG, allow_networks=()))
    answer = await sender.post(f"http://good.test:{place.port}/", Format.NATIVE, PAYLOAD, [SECRET], attempt=1)
    assert answer.outcome is Outcome.BLOCKED
    await sender.close()
    assert place.guarded == 0
    assert place.counts[ALLOWED] == 2


async def test_s8_a_zone_that_changes_with_every_answer(place: Place) -> None:
    rng = random.Random(1)
    sender = place.sender()
    outcomes = set()
    for _ in range(40):
        address = rng.choice([ALLOWED, "127.0.0.1", "127.0.0.2"])
        other = rng.choice([ALLOWED, "127.0.0.1"])
        place.dns.load(f"rebound.test A {address}\nrebound.test A {other}")
        url = f"http://rebound.test:{place.port}/"
        outcomes.add((await sender.post(url, Format.NATIVE, PAYLOAD, [SECRET], attempt=1)).outcome)
        await sender.reconfigure(replace(CONFIG, timeout_s=5 + rng.random()))  # no connection is kept
    await sender.close()
    assert outcomes == {Outcome.DELIVERED, Outcome.BLOCKED}
    assert place.dns.asked("rebound.test", "A") == 40  # each answer is judged, and none asked for twice
    assert place.guarded == 0


async def test_s8_a_redirect_is_not_followed(place: Place) -> None:
    async with Receiver(host=ALLOWED) as receiver:
        sender = place.sender()
        for code in (301, 302, 303, 307, 308):
            receiver.answer = lambda _request, _writer, code=code: status(  # type: ignore[misc]
                code, Location=f"http://127.0.0.1:{place.port}/"
            )
            answer = await sender.post(receiver.url, Format.NATIVE, PAYLOAD, [SECRET], attempt=1)
            assert (answer.outcome, answer.status) == (Outcome.REFUSED, code)
        await sender.close()
    assert place.guarded == 0


async def test_s8_no_proxy_is_asked_and_no_cookie_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{place.port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{place.port}")
    async with Receiver(host=ALLOWED) as receiver:
        receiver.answer = lambda _request, _writer: status(200, Set_Cookie="a=b")
        sender = place.sender()
        for _ in range(2):
            assert (await sender.post(receiver.url, Format.NATIVE, PAYLOAD, [SECRET], attempt=1)).delivered
        await sender.close()
        assert all("cookie" not in one.headers for one in receiver.asked)
    assert place.guarded == 0


async def test_ports_where_other_protocols_listen(place: Place) -> None:
    sender = place.sender()
    for port in (22, 25, 53, 110, 143, 465, 587, 993):
        answer = await sender.post(f"http://{ALLOWED}:{port}/", Format.NATIVE, PAYLOAD, [SECRET], attempt=1)
        assert answer.outcome is Outcome.BLOCKED
        assert "port" in answer.error
    for scheme, config in (("http", replace(CONFIG, allow_http=False)), ("ftp", CONFIG), ("unix", CONFIG)):
        await sender.reconfigure(config)
        answer = await sender.post(f"{scheme}://{ALLOWED}:{place.port}/", Format.NATIVE, PAYLOAD, [SECRET], attempt=1)
        assert answer.outcome is Outcome.BLOCKED
    await sender.close()
    assert sum(place.counts.values()) == 0


async def test_the_certificate_is_verified(place: Place, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("good.test").configure_cert(context)
    async with Receiver(host=ALLOWED, tls=context, name="good.test") as receiver:
        for file, name, delivered in (
            ("ca.pem", "good.test", True),
            ("other.pem", "good.test", False),
            ("ca.pem", ALLOWED, False),
        ):
            sender = place.sender(ca=tmp_path / file)
            url = f"https://{name}:{receiver.port}/hooks"
            answer = await sender.post(url, Format.NATIVE, PAYLOAD, [SECRET], attempt=1)
            await sender.close()
            assert answer.delivered is delivered, answer
            assert delivered or answer.error == "its certificate cannot be verified"


NOT_PUBLIC = [
    "192.0.0.192",  # whatever this Python's table says
    "192.0.0.9",
    "192.88.99.1",
    "168.63.129.16",
    "169.254.169.254",
    "100.100.100.200",
    "198.18.0.1",
    "240.0.0.1",
    "::ffff:192.0.0.192",
    "64:ff9b::c000:c0",
    "64:ff9b:1::1",
    "2002:c000:c0::1",
    "3fff::1",
    "fd00:ec2::254",
    "fec0::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_s8_what_is_nobodys_on_the_internet(address: str) -> None:
    assert not netguard.is_public(address)
    assert not Guard().allows(address)


GUARD = Guard(ports=frozenset({443}), high_ports=True)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("https://hooks.example.com/a%20b?c=d", "https://hooks.example.com/a%20b?c=d"),
        ("https://Hooks.Example.COM", "https://hooks.example.com"),
        ("HTTPS://hooks.example.com:8443/", "https://hooks.example.com:8443/"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("https://8.8.8.8/x", "https://8.8.8.8/x"),
        ("https://[2600::1]/", "https://[2600::1]/"),
    ],
)
def test_urls_that_are_taken(given: str, asked: str) -> None:
    assert netguard.check_url(given, GUARD).removesuffix("/") == asked.removesuffix("/")


@pytest.mark.parametrize("form", [one.replace("http:", "https:") for one in FORMS if ".test" not in one])
def test_urls_that_are_refused_when_they_are_given(form: str) -> None:
    with pytest.raises(UrlError):
        netguard.check_url(form.replace("{}", "8443"), GUARD)


@pytest.mark.parametrize("length", [1990, 2001, 100_000])
def test_a_long_url(length: int) -> None:
    url = "https://hooks.example.com/" + "a" * (length - 26)
    if length <= 2000:
        assert netguard.check_url(url, GUARD) == url
    else:
        with pytest.raises(UrlError, match="at most 2000"):
            netguard.check_url(url, GUARD)
