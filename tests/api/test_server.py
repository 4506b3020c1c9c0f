"""The door itself: envelopes, errors of HTTP, request ids, limits. Over real sockets."""

import asyncio
import json
import logging

import pytest

from gateway.api.body import MEMORY_FACTOR
from gateway.budget import Budget
from gateway.errors import Reason, Refused, StoreError, StoreFull
from tests.api.conftest import MAIL, SEND, Api, Client, Start

BODY = json.dumps(MAIL).encode()
HEAD = f"POST {SEND} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer full\r\n".encode()
AUTH = {"Authorization": "Bearer full"}


async def test_success_has_one_shape(api: Api) -> None:
    reply = await api.send(MAIL)
    assert reply.status == 201
    assert reply.json == {
        "ok": True,
        "data": {
            "message_id": reply.json["data"]["message_id"],
            "status": "queued",
            "created_at": "2024-11-03T06:41:14.931Z",
        },
        "meta": {"request_id": reply.headers["x-request-id"]},
    }
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["server"] == "mail-gateway"
    assert "date" in reply.headers
    assert "connection" not in reply.headers


async def test_failure_has_one_shape(api: Api) -> None:
    reply = await api.send({"to": 1, "text": "x"})
    message = "to: must be a string, an object with email or a list, got a number"
    required = "from: is required (this key has no default_from)"
    assert reply.status == 400
    assert reply.json == {
        "ok": False,
        "error": {
            "code": "invalid_parameter",
            "message": f"{message} (1 more in errors)",
            "param": "to",
            "retryable": False,
            "doc_url": "/api/v1/docs#error-invalid_parameter",
            "errors": [
                {"code": "invalid_parameter", "message": message, "param": "to", "field": "to"},
                {"code": "missing_parameter", "message": required, "param": "from", "field": "from"},
            ],
        },
        "meta": {"request_id": reply.headers["x-request-id"]},
    }
    assert api.door.asked == []


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic ZnVsbDo=",
        "full",
        "Bearer wrong-and-longer",
        "Bearer ä",
    ],
)
async def test_every_401_is_the_same(api: Api, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    reply = await api.call("POST", SEND, BODY, key=None, X_Request_Id="r", **headers)
    expected = await api.call("POST", SEND, BODY, key="unknown", X_Request_Id="r")
    assert (reply.status, reply.body) == (401, expected.body)
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json["error"]["code"] == "authentication_required"


async def test_the_scheme_is_compared_without_case(api: Api) -> None:
    assert (await api.send(MAIL, key=None, Authorization="bearer  full")).status == 201


@pytest.mark.parametrize("place", ["?key=full", "?api_key=full"])
async def test_the_key_is_taken_from_nowhere_else(api: Api, place: str) -> None:
    reply = await api.call("POST", SEND + place, BODY, key=None, X_API_Key="full", Cookie="key=full")
    assert reply.status == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("POST", "/api/v1/emails/", 404, None),
        ("GET", "/api/v1/emails/a/b", 404, None),
        ("POST", "/api/v1/emails", 405, "GET, HEAD"),
        ("POST", "/emails/send", 404, None),
        ("GET", SEND, 405, "POST"),
        ("OPTIONS", SEND, 405, "POST"),
        ("DELETE", "/api/v1/emails/eml_x", 405, "GET, PATCH, HEAD"),
        ("POST", "/health/live", 405, "GET, HEAD"),
    ],
)
async def test_unknown_paths_and_methods(api: Api, method: str, path: str, status: int, allow: str | None) -> None:
    reply = await api.call(method, path)
    assert reply.status == status
    assert reply.json["error"]["code"] == {404: "not_found", 405: "method_not_allowed"}[status]
    assert reply.headers.get("allow") == allow
    assert reply.headers["content-type"] == "application/json"


async def test_other_spellings_of_a_path(api: Api) -> None:
    for path in (f"http://localhost{SEND}", "/api/v1/emails/%73end"):
        assert (await api.call("POST", path, BODY)).status == 201


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-1.2:3_Z", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("a b", False),
        ("ä", False),
        ('"', False),
    ],
)
@pytest.mark.parametrize("path", [SEND, "/nowhere", "/health/live"])
async def test_request_ids(api: Api, given: str, kept: bool, path: str) -> None:
    reply = await api.call("GET", path, X_Request_Id=given)
    shown = reply.headers["x-request-id"]
    assert (shown == given) is kept
    assert kept or (shown.startswith("req_") and len(shown) == 28 and shown[4:].isalnum())


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/vnd.api+json",
    ],
)
async def test_types_that_are_json(api: Api, content_type: str) -> None:
    assert (await api.send(MAIL, Content_Type=content_type)).status == 201


async def test_no_type_is_taken_for_json(api: Api) -> None:
    assert (await api.call("POST", SEND, BODY)).status == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": "application/json; charset=utf-16"},
        {"Content_Type": "+json"},
        {"Content_Encoding": "gzip"},
        {"Content_Encoding": "br"},
    ],
)
async def test_other_types_and_encodings(api: Api, headers: dict[str, str]) -> None:
    reply = await api.send(MAIL, **headers)
    assert (reply.status, reply.json["error"]["code"]) == (415, "unsupported_media_type")


async def test_a_body_that_declares_too_much_is_refused_unread(api: Api) -> None:
    client = await Client.connect(api.server)
    client.writer.write(HEAD + b"Content-Length: 1000000000\r\n\r\n")
    reply = await client.read()
    assert (reply.status, reply.json["error"]["code"]) == (413, "payload_too_large")
    assert reply.headers["connection"] == "close"
    await client.close()


async def test_a_chunked_body_ends_where_it_is_too_large(api: Api) -> None:
    client = await Client.connect(api.server)
    client.writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for _ in range(40):  # 2.6 MB of at most 2.47
        client.writer.write(chunk)
    assert (await client.read()).status == 413
    await client.close()


async def test_a_slow_body_ends_at_its_deadline(start: Start) -> None:
    api = await start(body_grace_s=0.05)
    client = await Client.connect(api.server)
    client.write("POST", SEND, b"", {**AUTH, "Content-Length": "100"})
    client.writer.write(b"{")
    reply = await client.read()
    assert (reply.status, reply.json["error"]["code"]) == (408, "request_timeout")
    assert reply.json["error"]["retryable"] is True
    await client.close()


async def test_bodies_in_hand_are_bounded_together(start: Start) -> None:
    body = json.dumps({**MAIL, "text": "x" * 500}).encode()
    budget = Budget(MEMORY_FACTOR * len(body) + 100)
    api = await start(budget=budget, room_wait_s=0.05)
    api.door.gate = asyncio.Event()
    first, second, chunked = [await Client.connect(api.server) for _ in range(3)]
    first.write("POST", SEND, body, AUTH)
    await api.door.entered.wait()
    assert budget.held == MEMORY_FACTOR * len(body)
    second.write("POST", SEND, body, AUTH)
    chunked.writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for client in (second, chunked):
        reply = await client.read()
        assert (reply.status, reply.json["error"]["code"]) == (503, "backlog_full")
        assert (reply.headers["retry-after"], reply.json["error"]["retryable"]) == ("5", True)
    api.door.gate.set()
    assert (await first.read()).status == 201
    assert budget.held == 0
    second.write("POST", SEND, body, AUTH)
    assert (await second.read()).status == 201
    for client in (first, second, chunked):
        await client.close()


async def test_a_body_waits_for_its_memory(start: Start) -> None:
    budget = Budget(MEMORY_FACTOR * len(BODY))
    api = await start(budget=budget)
    assert budget.try_take(1)
    first, second = [await Client.connect(api.server) for _ in range(2)]
    first.write("POST", SEND, BODY, AUTH)
    second.write("POST", SEND, b"", {**AUTH, "Expect": "100-continue", "Content-Length": str(len(BODY))})
    first.write("GET", "/health/live")  # answered after what is before it
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await second.reader.read(1)  # not even the word to go on
    assert api.door.asked == []
    budget.release(1)
    assert (await first.read()).status == 201
    assert (await first.read()).status == 200
    async with asyncio.timeout(30):
        assert await second.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    second.writer.write(BODY)
    assert (await second.read()).status == 201
    assert budget.held == 0
    for client in (first, second):
        await client.close()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_message_larger_than_the_budget_has_it_for_itself(start: Start, chunked: bool) -> None:
    budget = Budget(1000)
    api = await start(budget=budget, room_wait_s=0.05)
    body = json.dumps({**MAIL, "text": "x" * 300_000}).encode()
    api.door.gate = asyncio.Event()
    first = await Client.connect(api.server)
    if chunked:
        first.writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for start_ in range(0, len(body), 10_000):
            part = body[start_ : start_ + 10_000]
            first.writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        first.writer.write(b"0\r\n\r\n")
    else:
        first.write("POST", SEND, body, AUTH)
    await api.door.entered.wait()
    assert budget.held == 1000
    assert (await api.send(MAIL)).status == 503
    api.door.gate.set()
    assert (await first.read()).status == 201
    assert budget.held == 0
    await first.close()


async def test_an_unfinished_body_gives_its_memory_back(start: Start) -> None:
    budget = Budget(1_000_000)
    api = await start(budget=budget, body_grace_s=0.05)
    gone, slow = [await Client.connect(api.server) for _ in range(2)]
    for client in (gone, slow):
        client.write("POST", SEND, b"{", {**AUTH, "Content-Length": "1000"})
        await client.writer.drain()
    await gone.close()
    assert (await slow.read()).status == 408
    while budget.held:
        await asyncio.sleep(0)
    await slow.close()


async def test_a_broken_chunked_body(api: Api) -> None:
    client = await Client.connect(api.server)
    client.writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n")
    reply = await client.read()
    assert (reply.status, reply.json["ok"]) == (400, False)
    await client.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"NOT HTTP\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_not_http(api: Api, raw: bytes) -> None:
    client = await Client.connect(api.server)
    client.writer.write(raw)
    reply = await client.read()
    assert (reply.status, reply.json["error"]["message"]) == (400, "The request is not valid HTTP.")
    assert reply.headers["x-request-id"] == reply.json["meta"]["request_id"]
    assert reply.headers["content-type"] == "application/json"
    assert await client.at_end()
    await client.close()


@pytest.mark.parametrize(
    "raw",
    [
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
        + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT gateway.test:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_a_request_whose_end_is_in_doubt_ends_the_connection(api: Api, raw: bytes) -> None:
    client = await Client.connect(api.server)
    client.writer.write(raw + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    reply = await client.read()
    assert (reply.status, reply.json["error"]["code"]) == (400, "invalid_parameter")
    assert reply.headers["connection"] == "close"
    assert await client.at_end()
    await client.close()


ERRORS: list[tuple[Exception, int, str, str | None]] = [
    (Refused(Reason.SENDER_NOT_ALLOWED, "not you", param="from"), 403, "sender_not_allowed", None),
    (Refused(Reason.IDEMPOTENCY_CONFLICT, "other"), 409, "idempotency_conflict", None),
    (Refused(Reason.CONFLICT, "other"), 409, "conflict", None),
    (Refused(Reason.PAYLOAD_TOO_LARGE, "large"), 413, "payload_too_large", None),
    (Refused(Reason.VALIDATION_ERROR, "odd"), 422, "validation_error", None),
    (Refused(Reason.NOT_SUPPORTED, "later"), 422, "not_supported", None),
    (Refused(Reason.NO_ROUTE, "none", retry_after_s=60), 503, "no_active_providers", "60"),
    (Refused(Reason.BACKLOG_FULL, "full"), 503, "backlog_full", "30"),
    (StoreFull("disk /var full"), 503, "backlog_full", "30"),
    (StoreError("/var/lib is away"), 503, "storage_unavailable", "30"),
    (RuntimeError("secret detail"), 500, "internal_error", None),
]


@pytest.mark.parametrize(("error", "status", "code", "retry_after"), ERRORS, ids=[row[2] for row in ERRORS])
async def test_errors_of_the_door(
    api: Api,
    error: Exception,
    status: int,
    code: str,
    retry_after: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    api.door.error = error
    with caplog.at_level(logging.CRITICAL, "gateway.api"):
        reply = await api.send(MAIL)
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert reply.headers.get("retry-after") == retry_after
    assert reply.json["error"]["retryable"] is (status >= 500)
    assert len(reply.json["error"]["errors"]) == (reply.json["error"]["param"] is not None)
    assert b"secret" not in reply.body
    assert b"/var" not in reply.body


async def test_scopes(api: Api) -> None:
    for key, method, path in (("reader", "POST", SEND), ("sender", "GET", "/api/v1/emails/eml_x")):
        reply = await api.call(method, path, key=key)
        assert (reply.status, reply.json["error"]["code"]) == (403, "insufficient_permissions")


async def test_health(api: Api) -> None:
    live = await api.call("GET", "/health/live", key=None)
    ready = await api.call("GET", "/health/ready", key=None)
    assert (live.status, live.body) == (ready.status, ready.body) == (200, b'{"status":"ok"}')
    api.door.unready = "the store is away"
    ready = await api.call("GET", "/health/ready", key=None)
    assert (ready.status, ready.json["reason"]) == (503, "the store is away")
    head = await api.call("HEAD", "/health/live", key=None)
    assert (head.status, head.headers["content-length"]) == (200, "15")


async def test_kept_connections_and_pipelining(api: Api) -> None:
    client = await Client.connect(api.server)
    for _ in range(3):
        client.write("POST", SEND, BODY, AUTH)
    client.write("HEAD", "/health/live")
    client.write("GET", "/health/live", headers={"Connection": "close"})
    assert [(await client.read()).status for _ in range(3)] == [201] * 3
    assert (await client.read(head_only=True)).status == 200
    assert (await client.read()).headers["connection"] == "close"
    assert await client.at_end()
    await client.close()


async def test_http_10(api: Api) -> None:
    client = await Client.connect(api.server)
    client.writer.write(b"GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await client.read()).headers["connection"] == "keep-alive"
    client.writer.write(b"GET /health/live HTTP/1.0\r\n\r\n")
    assert (await client.read()).headers["connection"] == "close"
    assert await client.at_end()
    await client.close()


async def test_expect_continue(api: Api) -> None:
    client = await Client.connect(api.server)
    client.write("POST", SEND, b"", {**AUTH, "Expect": "100-continue", "Content-Length": str(len(BODY))})
    async with asyncio.timeout(30):
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.writer.write(BODY)
    assert (await client.read()).status == 201
    await client.close()


async def test_a_client_that_goes_away_is_no_error(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    client = await Client.connect(api.server)
    client.write("POST", SEND, b"{", {**AUTH, "Content-Length": "100"})
    await client.writer.drain()
    await client.close()
    assert (await api.send(MAIL)).status == 201
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
