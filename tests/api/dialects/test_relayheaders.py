"""i-as: the relay in the header, or a key; pass-through."""

import logging

import pytest

from gateway.api.dialects import relayheaders
from gateway.config import Secret
from gateway.delivery.passthrough import Ending, NamedRelay
from gateway.events import State
from tests.api.conftest import Api, Client
from tests.api.dialects.conftest import each_error, rows
from tests.api.dialects.ias import CC, KEY, MAIL, PLAIN, RELAY, TO, X_FORM, basic, check_failure, passed, send


@pytest.mark.parametrize(
    "headers",
    [
        {"password": "full"},
        {"email": "you@example.com", "password": "full"},
        {"Authorization": basic("", "full")},
        {"Authorization": basic("full", "full")},
        {**PLAIN, "server": "mail.example.com", "password": "full"},
        {**PLAIN, "server": "MAIL.EXAMPLE.COM", "password": "full"},
        {**X_FORM, "X-SMTP-Server": "mail.example.com", "Authorization": KEY},
    ],
)
async def test_the_password_is_a_key(api: Api, headers: dict[str, str]) -> None:
    assert (await send(api, MAIL, headers)).status == 202
    assert api.door.asked[0].principal.name == "full"
    assert api.door.named == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer full"},
        {"Authorization": "Basic !"},
        {"Authorization": basic("full", "")},
        {"Authorization": basic("you", "wrong")},
        {"Authorization": basic("reader", "full")},
        {"email": "you", "password": "wrong"},
        {"X-API-Key": "full"},
        {**PLAIN, "server": "mail.example.com"},
    ],
)
async def test_every_401_is_the_same(api: Api, headers: dict[str, str]) -> None:
    reply = await send(api, MAIL, headers)
    check_failure(reply, 401)
    assert reply.json == {"message": "Authentication failed"}
    assert reply.headers["www-authenticate"].startswith('Basic realm="')


async def test_a_key_that_may_not_send(api: Api) -> None:
    check_failure(await send(api, MAIL, {"Authorization": basic("you", "reader")}), 403)


@pytest.mark.parametrize("form", [PLAIN, X_FORM])
async def test_both_forms_name_a_relay(api: Api, form: dict[str, str]) -> None:
    api.door.relays = frozenset({(RELAY, 587)})
    states = {TO: (State.DELIVERED, "250 OK"), CC: (State.BOUNCED, "550 no")}
    api.door.passed = passed(Ending.ACCEPTED, states)
    reply = await send(api, MAIL, form)
    assert (reply.status, reply.json["message"]) == (200, "Email sent successfully")
    assert reply.json["info"] == {
        "accepted": [TO],
        "rejected": [CC],
        "envelopeTime": 12,
        "messageTime": 34,
        "messageSize": 456,
        "response": "250 OK",
        "envelope": {"from": MAIL["from"], "to": [TO, CC]},
        "messageId": "<one@example.com>",
    }
    ((relay, submission, peer),) = api.door.named
    assert relay == NamedRelay(RELAY, 587, True, "you@example.com", Secret("hunter-22"))
    assert submission.text == MAIL["text"]
    assert (api.door.asked, peer) == ([], "127.0.0.1")


async def test_a_mixture_of_the_forms(api: Api) -> None:
    api.door.relays = frozenset({(RELAY, 25)})
    api.door.passed = passed(Ending.ACCEPTED)
    headers = {"server": RELAY, "X-SMTP-Port": "25", "X-SMTP-Secure": "False", "email": "me", "Authorization": KEY}
    assert (await send(api, MAIL, headers)).status == 200
    assert api.door.named[0][0] == NamedRelay(RELAY, 25, False, "me", Secret("full"))


@pytest.mark.parametrize("form", [PLAIN, X_FORM])
async def test_a_missing_field_is_named(api: Api, form: dict[str, str]) -> None:
    api.door.relays = frozenset({(RELAY, 587)})
    for name in form:
        for rest in ({}, {name: ""}):
            headers = {**{key: value for key, value in form.items() if key != name}, **rest}
            check_failure(await send(api, MAIL, headers), 400, f"{name}: ")
    check_failure(await send(api, MAIL, {"port": "587"}), 400, "server: is", "secure: is", "email: is", "password: is")
    assert api.door.named == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("port", value) for value in ("0", "65536", "-1", "587x", "5.5", "999999", "٣")],
        *[("secure", value) for value in ("yes", "1", "TRUE!", "null")],
        *[("server", value) for value in ("a b", "a/b", "smtp.example.com:25", "ä.example", "-x", "x" * 300)],
        *[(name, "x" * 1001) for name in ("email", "password")],
    ],
)
async def test_a_bad_field_is_named(api: Api, name: str, value: str) -> None:
    check_failure(await send(api, MAIL, {**PLAIN, name: value}), 400, f"{name}: must be ")
    if name not in ("email", "password"):
        check_failure(
            await send(api, MAIL, {**X_FORM, f"X-SMTP-{name.title()}": value}), 400, f"{name.title()}: must be "
        )


@pytest.mark.parametrize("user", ["a\r\nb", "a\x00b", "a\u2028b"])
async def test_credentials_are_of_one_line(api: Api, user: str) -> None:
    api.door.relays = frozenset({(RELAY, 587)})
    for authorization in (basic(user, "x"), basic("x", user)):
        reply = await send(api, MAIL, {**X_FORM, "Authorization": authorization})
        check_failure(reply, 400, "Authorization: must not hold")
    assert api.door.named == []


async def test_credentials_that_are_not_utf8(api: Api) -> None:
    head = "POST /api/smtp HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    fields = "".join(f"{name}: {value}\r\n" for name, value in PLAIN.items() if name != "password")
    for more, status in ((fields, 400), ("", 401)):
        client = await Client.connect(api.server)
        client.writer.write(f"{head}{more}password: ".encode() + b"\xfc\r\n\r\n{}")
        check_failure(await client.read(), status)
        await client.close()


@pytest.mark.parametrize("headers", [{**PLAIN, "server": "smtp.example.net"}, {**PLAIN, "port": "25"}])
async def test_an_unlisted_relay(api: Api, headers: dict[str, str]) -> None:
    api.door.relays = frozenset({(RELAY, 587)})
    reply = await send(api, MAIL, headers)
    check_failure(reply, 403)
    assert reply.json == {"message": "Mail for the server named in the request is not taken here."}
    assert (api.door.named, api.door.asked) == ([], [])


@pytest.mark.parametrize(
    ("ending", "status", "text"),
    [
        (Ending.AUTHENTICATION_FAILED, 401, "Authentication failed"),
        (Ending.REFUSED, 502, "The server named in the request did not take the message."),
        (Ending.UNREACHABLE, 502, "The server named in the request did not take the message."),
        (Ending.UNCERTAIN, 504, "The server named in the request did not confirm the message: it may have been sent."),
    ],
)
async def test_a_listed_relay_does_not_take_it(api: Api, ending: Ending, status: int, text: str) -> None:
    api.door.relays = frozenset({(RELAY, 587)})
    api.door.passed = passed(ending, {TO: (State.BOUNCED, "550 banner of a host")})
    reply = await send(api, MAIL, PLAIN)
    check_failure(reply, status)
    assert reply.json == {"message": text}


@each_error
async def test_errors_of_pass_through(
    api: Api, error: Exception, status: int, retry_after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    api.door.relays = frozenset({(RELAY, 587)})
    api.door.error = error
    with caplog.at_level(logging.DEBUG):
        reply = await send(api, MAIL, PLAIN)
    check_failure(reply, status)
    assert reply.headers.get("retry-after") == retry_after
    assert "hunter-22" not in caplog.text + reply.body.decode()


def test_the_document_has_the_header_fields_of_the_decoder() -> None:
    documented = [(row[0], row[1]) for row in rows("iassmtp", "| field | or | supported | what happens |")]
    assert documented == [(field.name, field.other) for field in relayheaders.HEADERS]
