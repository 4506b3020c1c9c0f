"""Whatever addresses, hosts and messages hold, a notification is mail that other parsers read the same way."""

import email.policy
import re
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser

from flufl.bounce import all_failures
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.message import address, dsn, xtext
from gateway.message.dsn import status
from gateway.message.dsn.notice import Action, Fate, Notice
from tests.fuzz import effort

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DOMAINS = st.sampled_from(["example.net", "bücher.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
PLAIN = st.text("abcXYZ019._+-", min_size=1, max_size=20)
QUOTED = st.text(max_size=20).map(lambda text: '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"')))
UTF8 = st.text("abüß日本", min_size=1, max_size=10)


def _normal(local: str, domain: str) -> str | None:
    try:
        return address.parse_path(f"{local}@{domain}")
    except address.AddressError:
        return None


def _addresses(locals_: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(_normal, locals_, DOMAINS).filter(bool).map(str)


ADDRESSES = _addresses(st.one_of(PLAIN, QUOTED, UTF8))
SAID = st.one_of(
    st.text(max_size=300),
    st.binary(max_size=300).map(lambda data: data.decode("utf-8", "replace")),
    st.builds("{} {}".format, st.integers(200, 599), st.text("a .\r\n:;=<>-üx", max_size=300)),
    st.builds("{} {}".format, st.integers(200, 599), st.integers(0, 4000).map("x".__mul__)),
)
# ORCPT is checked on its way in; what is stored before a rule changed may be anything.
ORIGINAL = st.one_of(st.just(""), ADDRESSES.map(lambda a: f"utf-8;{xtext.encode_address(a)}"), st.text(max_size=50))
HEADERS = st.one_of(
    st.just(b"Subject: Hi\r\n\r\n"),
    st.binary(max_size=300),
    st.text(max_size=200).map(lambda text: f"Subject: {text}\r\n\r\n".encode("utf-8", "replace")),
)


def fates(action: Action, addresses: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[Fate, ...]]:
    fate = st.builds(
        Fate,
        address=addresses,
        original=ORIGINAL if addresses is ADDRESSES else st.just(""),
        action=st.just(action),
        reason=st.sampled_from(["", "InvalidRecipient", "MessageExpired", "Uncertain", "of tomorrow"]),
        reply=SAID,
        host=st.one_of(st.just("mx.example.net"), st.text(max_size=30)),
        at=st.just(NOW),
        tries=st.integers(0, 3),
    )
    return st.lists(fate, min_size=1, max_size=4).map(tuple)


def notices(addresses: st.SearchStrategy[str]) -> st.SearchStrategy[Notice]:
    return st.sampled_from(Action).flatmap(
        lambda action: st.builds(
            Notice,
            hostname=st.just("gateway.example.org"),
            to=addresses,
            id=st.just("eml_0123"),
            subject=st.text(max_size=300),
            message_id=st.text(max_size=100),
            envelope_id=st.text(max_size=120),
            arrived_at=st.just(NOW),
            retry_until=st.just(NOW),
            fates=fates(action, addresses),
            header=HEADERS,
            body=st.one_of(st.none(), st.binary(max_size=300)),
        )
    )


def wire(notice: Notice) -> bytes:
    content = dsn.compose(notice, message_id="n1@gateway.example.org", date=NOW, seed=b"0123456789ab")
    assert all(0 < len(piece) <= 256 * 1024 for piece in content.body)
    return content.header + b"".join(content.body)


def final_recipients(data: bytes) -> list[str]:
    """Read by hand: email knows nothing of the global form."""
    (part,) = re.findall(
        rb"\r\nContent-Type: message/(?:global-)?delivery-status\r\n.*?\r\n\r\n(.*?)\r\n--=_", data, re.DOTALL
    )
    lines = part.decode().split("\r\n")
    assert all(re.match(r"[A-Z][A-Za-z-]+: |[ \t]|$", line) for line in lines)
    return [line.partition("; ")[2] for line in lines if line.startswith("Final-Recipient: ")]


@effort.examples(40)
@given(notices(ADDRESSES))
def test_it_is_mail_and_nobody_adds_to_it(notice: Notice) -> None:
    data = wire(notice)
    assert not re.search(rb"[\r\n\0]", data.replace(b"\r\n", b""))
    assert max(map(len, data.split(b"\r\n"))) <= 998
    assert final_recipients(data) == [fate.address for fate in notice.fates]
    header = data.partition(b"\r\n\r\n")[0].decode()
    assert header.isascii() or not notice.to.isascii()
    names = [line.partition(":")[0] for line in header.split("\r\n") if line[0] not in " \t"]
    assert len(names) == len(set(names))
    wanted = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}
    assert wanted <= set(names) <= wanted | {"In-Reply-To", "References"}


@effort.examples(20)
@given(notices(ADDRESSES))
def test_email_finds_the_parts_under_both_policies(notice: Notice) -> None:
    data = wire(notice)
    for policy in (email.policy.compat32, email.policy.default):
        message: Message = BytesParser(policy=policy).parsebytes(data)
        assert not message.defects
        payload = message.get_payload()
        assert isinstance(payload, list)
        types = [part.get_content_type() for part in payload if isinstance(part, Message)]
        assert types[:2] == ["text/plain", f"message/{status.subtype(notice)}"]
        assert len(types) == 2 + bool(notice.header)
        if status.subtype(notice) == status.PLAIN:
            found = [str(part["Final-Recipient"]) for part in message.walk() if part["Final-Recipient"]]
            assert found == [f"rfc822; {fate.address}" for fate in notice.fates]


@effort.examples(20)
@given(notices(_addresses(PLAIN)))
@example(
    Notice(
        "h",
        "a@b.example",
        "i",
        "",
        "",
        "",
        NOW,
        NOW,
        (Fate("c@d.example", "", Action.FAILED, "", "", "", NOW, 0),),
        b"",
    )
)
def test_flufl_sees_who_failed_and_who_waits(notice: Notice) -> None:
    temporary, permanent = all_failures(email.message_from_bytes(wire(notice)))
    recipients = {fate.address.encode() for fate in notice.fates}
    assert permanent == (recipients if notice.action is Action.FAILED else set())
    assert temporary == (recipients if notice.action is Action.DELAYED else set())
