"""Replies as hosts write them."""

import pytest

from gateway.delivery.reply import MAX_LINE, MAX_LINES, MAX_TEXT, MalformedReply, Reply, ReplyReader


@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        (b"250 2.1.0 Ok\r\n", Reply(250, "2.1.0", "250 2.1.0 Ok")),
        (b"250\r\n", Reply(250, "", "250")),
        (b"250 ok\n", Reply(250, "", "250 ok")),
        (b"550-5.1.1 no\r\n550 5.1.1 user\r\n", Reply(550, "5.1.1", "550 5.1.1 no user")),
        (b"550 4.2.1 mixed\r\n", Reply(550, "4.2.1", "550 4.2.1 mixed")),
        (b"550 5.1.1x\r\n", Reply(550, "", "550 5.1.1x")),
        ("550 gr\u00fcezi \udcff\r\n".encode("utf-8", "surrogateescape"), Reply(550, "", "550 gr\u00fcezi \ufffd")),
        (b"250 " + b"x" * 8000 + b"\r\n", Reply(250, "", "250 " + "x" * (MAX_TEXT - 4))),
    ],
)
def test_a_reply_is_read_however_it_is_cut(wire: bytes, reply: Reply) -> None:
    assert ReplyReader().feed(wire) == [reply]
    reader = ReplyReader()
    assert [one for byte in wire for one in reader.feed(bytes([byte]))] == [reply]


def test_many_replies_in_one_segment() -> None:
    replies = ReplyReader().feed(b"250 a\r\n250-b\r\n250 c\r\n354 d\r\n221")
    assert [reply.text for reply in replies] == ["250 a", "250 b c", "354 d"]


@pytest.mark.parametrize("wire", [b"hello\r\n", b"25\r\n", b"2500 x\r\n", b"\r\n", b"x" * (MAX_LINE + 1)])
def test_what_is_no_reply(wire: bytes) -> None:
    with pytest.raises(MalformedReply):
        ReplyReader().feed(wire)


def test_a_reply_without_an_end_is_bounded() -> None:
    reader = ReplyReader()
    for _ in range(MAX_LINES):
        assert reader.feed(b"250-more\r\n") == []
    with pytest.raises(MalformedReply):
        reader.feed(b"250-more\r\n")
