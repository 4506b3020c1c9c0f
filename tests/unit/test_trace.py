"""The dialogue with next hops at debug: what was said about which message, and no secret of it."""

import base64
import logging
from collections.abc import Iterator

import pytest

from gateway.config import Secret
from gateway.delivery import trace
from gateway.delivery.reply import make_reply
from gateway.runtime import show_id, uuid7
from gateway.store.queue import Due
from tests.fakes.carrying import CONTENT, attempt, desk, hosts, relay
from tests.fakes.mx import Do, Reaction

UUID = uuid7(1)
PASSWORD = "correct horse battery staple"


@pytest.fixture
def debug() -> Iterator[None]:
    """The level of an operator who asked for it."""
    logger = logging.getLogger("gateway")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    yield
    logger.setLevel(before)


def told(records: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in records.records if record.name == "gateway.dialogue"]


def test_above_debug_there_is_none() -> None:
    logger = logging.getLogger("gateway")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        assert trace.of(UUID) is None
    finally:
        logger.setLevel(before)


@pytest.mark.usefixtures("debug")
def test_lines_have_the_message_and_the_host(caplog: pytest.LogCaptureFixture) -> None:
    made = trace.of(UUID)
    assert made is not None
    made.host = "mx.example.com"
    made.sent(b"MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n")
    made.heard([make_reply([b"250-2.1.0 one", b"250 2.1.0 two"]), make_reply([b"354 go"])], "it was closed")
    assert told(caplog) == [
        "> MAIL FROM:<a@b.c>",
        "> RCPT TO:<d@e.f>",
        "> DATA",
        "< 250 2.1.0 one two",
        "< 354 go",
        "the connection is gone: it was closed",
    ]
    fields = {tuple(getattr(record, "fields").items()) for record in caplog.records}  # noqa: B009 - no attribute of a record's own
    assert fields == {(("id", show_id("eml_", UUID)), ("host", "mx.example.com"))}


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize("command", ["AUTH PLAIN {}", "AUTH LOGIN", "{}", "AUTH  {}", "auth plain {}"])
def test_no_secret_is_told(caplog: pytest.LogCaptureFixture, command: str) -> None:
    secret = base64.b64encode(f"\0user\0{PASSWORD}".encode()).decode()
    made = trace.of(UUID)
    assert made is not None
    made.sent_secret(command.format(secret).encode())
    assert secret not in "".join(told(caplog))
    assert told(caplog)[0].endswith("***")


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_a_whole_dialogue_is_told_but_the_password_and_the_content(
    caplog: pytest.LogCaptureFixture, mechanism: str
) -> None:
    repeated = base64.b64encode(PASSWORD.encode()).decode()
    script: dict[str, Reaction] = {"AUTH": Do(f"535 5.7.8 {PASSWORD} {repeated}")}
    offers = ("PIPELINING", f"AUTH {mechanism}")
    async with hosts({}, offers=offers) as (host,), hosts(script, offers=offers) as (deaf,):
        for one in (host, deaf):
            route = relay(one, host="one.test", username="shop", password=Secret(PASSWORD))
            async with desk((route,)) as at:
                carrier = at.couriers.carrier(Due(1, route.name, ""))
                await attempt(carrier, "b@example.test")
                carrier.close()
    said = told(caplog)
    for expected in (
        f"connecting to 127.0.0.1 port {host.port}",
        "> EHLO gw.test",
        "> AUTH PLAIN ***" if mechanism == "PLAIN" else "> ***",
        "< 235",
        "> RCPT TO:<b@example.test>",
        f"> ({len(CONTENT) + 3} octets of content)",
        "< 535",
    ):
        assert expected in said
    everything = "\n".join(said)
    for secret in (PASSWORD, repeated, base64.b64encode(f"\0shop\0{PASSWORD}".encode()).decode(), "how are you"):
        assert secret not in everything
    assert any(line.startswith("< 250") for line in said)
