"""GET /api/v1/emails/{id}/content: byte for byte, and nothing that a browser would run."""

import pytest

from gateway.store.sqlite import SqliteStore
from tests.api.conftest import Api, Client
from tests.api.mailing import Mail, shown
from tests.api.test_openapi import check_answer

PIECES = (b"Subject: x\r\n\r\n<script>" + b"a" * 200_000, b"b" * 262_144, b"the end\r\n")


@pytest.fixture
async def mail(store: SqliteStore) -> Mail:
    return Mail(store)


async def test_it_is_what_was_stored(mailing: Api, mail: Mail) -> None:
    message = await mail.put(pieces=tuple(enumerate(PIECES)), piece_count=3)
    path = f"/api/v1/emails/{shown(message)}/content"
    reply = await mailing.call("GET", path)
    assert reply.status == 200
    assert reply.body == b"".join(PIECES)
    assert reply.headers["content-type"] == "message/rfc822"
    assert reply.headers["content-disposition"] == f'attachment; filename="{shown(message)}.eml"'
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in reply.headers["content-security-policy"]
    head = await mailing.call("HEAD", path)
    assert (head.status, head.headers["content-length"]) == (200, str(len(reply.body)))
    assert (await mailing.call("GET", path, key="sender")).status == 403


async def test_a_connection_goes_on_after_it(mailing: Api, mail: Mail) -> None:
    path = f"/api/v1/emails/{shown(await mail.put())}/content"
    client = await Client.connect(mailing.server)
    for _ in range(2):
        client.write("GET", path, headers={"Authorization": "Bearer full"})
        assert (await client.read()).body.endswith(b"Body\r\n")
    await client.close()


async def test_what_was_erased_says_so_and_what_is_not_theirs_does_not(mailing: Api, mail: Mail) -> None:
    erased = await mail.put()
    await mail.end()
    theirs = await mail.put(account="other", key="other")
    texts = []
    for one in (shown(erased), shown(theirs), "eml_" + "0" * 24, "x"):
        reply = await mailing.call("GET", f"/api/v1/emails/{one}/content")
        assert reply.status == 404
        check_answer("get", "/api/v1/emails/{id}/content", 404, reply.json, reply.headers)
        texts.append(reply.json["error"]["message"])
    assert "erased" in texts[0]
    assert set(texts[1:]) == {"There is no message with this id."}


async def test_a_damaged_piece_cuts_the_answer(mailing: Api, mail: Mail, store: SqliteStore) -> None:
    message = await mail.put(pieces=tuple(enumerate(PIECES)), piece_count=3)
    sql = "UPDATE piece SET hash = x'00' WHERE message = ? AND piece = 2"
    await store._writer.submit(lambda tx, calls: [tx.one(sql, one) for one in calls], (message.id,))
    client = await Client.connect(mailing.server)
    client.write("GET", f"/api/v1/emails/{shown(message)}/content", headers={"Authorization": "Bearer full"})
    raw = b""
    try:
        while part := await client.reader.read(65_536):
            raw += part
    except ConnectionResetError:
        pass
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert not raw.endswith(b"the end\r\n")
    client.writer.transport.abort()
