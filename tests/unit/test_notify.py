"""What is wanted of a message beside its delivery, from both doors into the queue's values."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.errors import Reason, Refused
from gateway.keyterms import Duplicates
from gateway.message.model import BY_POLICY, TLS_OPTIONAL, TLS_REQUIRED
from gateway.message.notify import ASKED, BY_HTTP, BY_SMTP, DELAY, FAILURE, SUCCESS
from gateway.runtime import read_id
from gateway.store.newmail import NewMessage
from tests.unit.conftest import MAIL, SHOP, Desk, boxes, letter, sender_and_recipients

ONCE = replace(SHOP, duplicates=Duplicates.AT_MOST_ONCE)
TELLS = replace(SHOP, dsn=SUCCESS)


async def received(desk: Desk, mail: bytes = MAIL, *, key: Any = SHOP, **said: Any) -> NewMessage:
    """What of an SMTP message comes to the queue."""
    plain = {name: said.pop(name) for name in ("sender", "to") if name in said}
    envelope = msgspec.structs.replace(sender_and_recipients(**plain), **said)
    assert read_id("eml_", await desk.intake.receive(key, envelope).finish(mail)) is not None
    return desk.queue.enqueued[-1]


async def submitted(desk: Desk, *, key: Any = SHOP, **changes: Any) -> NewMessage:
    await desk.submit(letter(**changes), key)
    return desk.queue.enqueued[-1]


def told(message: NewMessage) -> list[int]:
    return [recipient.notify for recipient in message.recipients]


async def test_smtp_mail_is_told_of_failure_and_delay(desk: Desk) -> None:
    message = await received(desk)
    assert told(message) == [BY_SMTP]
    assert (message.ret, message.envid, message.tls_wish, message.at_most_once) == ("", "", BY_POLICY, False)
    assert message.recipients[0].orcpt == ""
    assert message.priority == 1


async def test_what_a_client_said_is_kept_as_it_was_said(desk: Desk) -> None:
    message = await received(
        desk,
        to=("b@example.net", "c@example.net", "d@example.net"),
        notify=(ASKED | SUCCESS, None, ASKED),
        orcpt=("rfc822;B+2Bx@Example.net", "", "x400;/C+3Dde/"),
        ret="HDRS",
        envid="a+2Bb",
        require_tls=True,
    )
    assert told(message) == [ASKED | SUCCESS, BY_SMTP, ASKED]
    assert [recipient.orcpt for recipient in message.recipients] == ["rfc822;B+2Bx@Example.net", "", "x400;/C+3Dde/"]
    assert (message.ret, message.envid, message.tls_wish) == ("HDRS", "a+2Bb", TLS_REQUIRED)


async def test_the_key_says_it_where_the_client_does_not(desk: Desk) -> None:
    assert told(await received(desk, key=TELLS)) == [SUCCESS]
    assert told(await received(desk, key=replace(SHOP, dsn=0))) == [0]
    both = await received(
        desk, key=TELLS, to=("b@example.net", "c@example.net"), notify=(None, ASKED | DELAY), orcpt=("", "")
    )
    assert told(both) == [SUCCESS, ASKED | DELAY]
    assert told(await submitted(desk, key=TELLS)) == [SUCCESS]
    assert told(await submitted(desk, key=TELLS, notify=ASKED)) == [ASKED]


@pytest.mark.parametrize("key", [SHOP, TELLS])
async def test_nobody_is_told_of_mail_with_the_null_sender(desk: Desk, key: Any) -> None:
    assert told(await received(desk, key=key, sender="")) == [0]
    message = await received(desk, key=key, sender="", notify=(ASKED | FAILURE,), orcpt=("rfc822;x@example.net",))
    assert told(message) == [0]
    assert message.recipients[0].orcpt == "rfc822;x@example.net"


async def test_an_address_twice_is_told_all_that_is_wanted_of_it(desk: Desk) -> None:
    message = await received(
        desk,
        to=("ops@example.net", "c@example.net", "ops@example.net", "ops@example.net"),
        notify=(ASKED | SUCCESS, None, ASKED | DELAY, ASKED),
        orcpt=("", "", "rfc822;root", "rfc822;postmaster"),
    )
    assert told(message) == [ASKED | SUCCESS | DELAY, BY_SMTP]
    assert [recipient.orcpt for recipient in message.recipients] == ["rfc822;root", ""]


async def test_by_http_nothing_is_told_unless_it_is_asked_for(desk: Desk) -> None:
    message = await submitted(desk, to=boxes("b@example.net", "c@example.net"))
    assert told(message) == [BY_HTTP, BY_HTTP] == [0, 0]
    assert (message.tls_wish, message.at_most_once, message.priority) == (BY_POLICY, False, 1)
    message = await submitted(
        desk, to=boxes("b@example.net", "c@example.net"), notify=ASKED | FAILURE, require_tls=True, priority=0
    )
    assert told(message) == [ASKED | FAILURE] * 2
    assert (message.tls_wish, message.priority) == (TLS_REQUIRED, 0)


async def test_in_a_batch_each_for_itself(desk: Desk) -> None:
    asked = [(letter(notify=ASKED | DELAY), None), (letter(require_tls=True, priority=2), None)]
    await desk.intake.submit_all(ONCE, asked, request=None, client="192.0.2.7")
    first, second = desk.queue.enqueued
    assert (told(first), first.tls_wish, first.priority, first.at_most_once) == ([ASKED | DELAY], BY_POLICY, 1, True)
    assert (told(second), second.tls_wish, second.priority, second.at_most_once) == ([0], TLS_REQUIRED, 2, True)


async def test_better_lost_than_twice_is_the_keys(desk: Desk) -> None:
    assert (await received(desk, key=ONCE)).at_most_once
    assert (await submitted(desk, key=ONCE)).at_most_once


OPTIONAL = b"TLS-Required: No\r\n"


async def test_rather_in_clear_than_not_at_all(desk: Desk) -> None:
    """RFC 8689, 3 and 4.1: REQUIRETLS wins over the field, which stays."""
    assert (await received(desk, OPTIONAL + MAIL)).tls_wish == TLS_OPTIONAL
    message = await received(desk, OPTIONAL + MAIL, require_tls=True)
    assert message.tls_wish == TLS_REQUIRED
    assert OPTIONAL in message.pieces[0][1]
    headers = (("X-A", "no"), ("tls-required", " No"))
    message = await submitted(desk, headers=headers)
    assert message.tls_wish == TLS_OPTIONAL
    assert b"tls-required:" in message.pieces[0][1]
    assert (await submitted(desk, headers=headers, require_tls=True)).tls_wish == TLS_REQUIRED
    assert (await submitted(desk, headers=(("TLS-Required", "yes"),))).tls_wish == BY_POLICY


@pytest.mark.parametrize(("word", "number"), [("high", 0), ("Normal", 1), ("LOW", 2)])
async def test_a_priority_in_the_header(desk: Desk, word: str, number: int) -> None:
    message = await received(desk, b"X-Gateway-Priority: %b\r\n" % word.encode() + MAIL)
    assert message.priority == number
    assert b"Priority" not in message.pieces[0][1]


async def test_a_priority_that_is_none(desk: Desk) -> None:
    refusal = await desk.refused(Reason.MALFORMED_MESSAGE, desk.receive(b"X-Gateway-Priority: urgent\r\n" + MAIL))
    assert refusal.smtp_reply == "550 5.6.0 X-Gateway-Priority must be high, normal or low."


async def test_another_wish_is_another_message_to_an_idempotency_key(desk: Desk) -> None:
    mail = b"Idempotency-Key: k\r\n" + MAIL
    plain = sender_and_recipients()
    tries = [msgspec.structs.replace(plain, envid=envid) for envid in ("first", "second")]
    first, second = [await desk.intake.receive(SHOP, envelope).finish(mail) for envelope in tries]
    assert first == second
    for said in ({"require_tls": True}, {"notify": (ASKED,), "orcpt": ("",)}):
        with pytest.raises(Refused) as refusal:
            await received(desk, mail, **said)
        assert refusal.value.reason is Reason.IDEMPOTENCY_CONFLICT


async def test_bounces_of_a_client_are_taken_from_a_key_that_may_not_send_as_all(desk: Desk) -> None:
    """Trap 21 at the door: patterns of senders and limits are no reason to lose a notification."""
    key = replace(SHOP, senders=("*@example.com",))
    desk.intake.check_sender(key, "", client="192.0.2.7")
    message = await received(desk, MAIL, key=key, sender="")
    assert (message.envelope_sender, told(message)) == ("", [0])
