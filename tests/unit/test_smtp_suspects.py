"""Recipients that are looked up before RCPT is answered: in order, one by one, whatever is pipelined behind them."""

import pytest

from gateway.errors import Reason, Refused, StoreError
from tests.fakes.smtp_door import FakeDoor
from tests.fakes.smtp_listener import HELLO, MESSAGE, client, config, on_both_loops, serving

SENDER = b"MAIL FROM:<a@example.com>\r\n"
PIPELINE = SENDER + b"RCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nRCPT TO:<d@example.org>\r\nDATA\r\n"


@pytest.fixture
def door() -> FakeDoor:
    """b and c are suspects; c is refused."""
    failures: dict[str, Exception] = {"c": Refused(Reason.RECIPIENT_SUPPRESSED, "The recipient is suppressed")}
    return FakeDoor(suspects={"b@example.org": "b", "c@example.org": "c"}, failures=failures)


@on_both_loops
async def test_the_replies_are_in_order_and_only_the_refused_one_is_left_out(door: FakeDoor) -> None:
    async with serving(config(), door) as server, client(server) as made:
        await made.say(HELLO + PIPELINE, "250", "250 2.1.0", "250 2.1.5", "550 5.7.1", "250 2.1.5", "354")
        await made.say(MESSAGE + b".\r\n" + PIPELINE, "250 2.0.0 queued", "250", "250", "550 5.7.1", "250", "354")
    (message,) = door.accepted
    assert message.envelope.recipients == ("b@example.org", "d@example.org")


@on_both_loops
async def test_nobody_left_is_no_message(door: FakeDoor) -> None:
    async with serving(config(), door) as server, client(server) as made:
        await made.say(HELLO + SENDER + b"RCPT TO:<c@example.org>\r\nDATA\r\n", "250", "250", "550", "554 5.5.1")
        await made.say(b"RSET\r\n", "250")
    assert not door.begun


@on_both_loops
async def test_what_cannot_be_looked_up_is_refused_for_now(door: FakeDoor) -> None:
    door.failures["b"] = StoreError("the disk is away")
    async with serving(config(), door) as server, client(server) as made:
        await made.say(HELLO + SENDER + b"RCPT TO:<b@example.org>\r\n", "250", "250", "451 4.3.0")


@on_both_loops
async def test_an_unforeseen_error_shows_nothing(door: FakeDoor, caplog: pytest.LogCaptureFixture) -> None:
    door.failures["b"] = KeyError("/var/lib/secret")
    async with serving(config(), door) as server, client(server) as made:
        await made.say(HELLO + SENDER + b"RCPT TO:<b@example.org>\r\nRSET\r\n", "250", "250", "451 4.3.0 An", "250")
    assert "a recipient from 127.0.0.1 could not be judged" in caplog.text


@on_both_loops
async def test_a_client_that_goes_meanwhile_leaves_nothing(door: FakeDoor) -> None:
    async with serving(config(), door) as server:
        async with client(server) as made:
            made.writer.write(HELLO + PIPELINE)
        async with client(server) as again:
            await again.say(HELLO + SENDER + b"RCPT TO:<d@example.org>\r\n", "250", "250", "250")
    assert not door.begun
