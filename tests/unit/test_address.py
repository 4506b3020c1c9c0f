"""Addresses, lists of them, and patterns of allowed senders."""

import contextlib
import time

import idna
import pytest

from gateway.message import address, address_list
from gateway.message.address import AddressError, UnqualifiedError
from gateway.message.model import Mailbox


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("a@b", "a@b"),
        ("User.Name+tag@Example.COM", "User.Name+tag@example.com"),
        ("!#$%&'*+/=?^_`{|}~-@example.com", "!#$%&'*+/=?^_`{|}~-@example.com"),
        ('"john"@example.com', "john@example.com"),
        ('"jo\\hn"@example.com', "john@example.com"),
        ('"a b"@example.com', '"a b"@example.com'),
        ('"a\\"b\\\\c"@example.com', '"a\\"b\\\\c"@example.com'),
        ('"a@b"@example.com', '"a@b"@example.com'),
        ('""@example.com', '""@example.com'),
        ("jürgen@example.com", "jürgen@example.com"),
        ("a@bücher.de", "a@xn--bcher-kva.de"),
        ("a@BÜCHER.DE", "a@xn--bcher-kva.de"),
        ("a@XN--BCHER-KVA.de", "a@xn--bcher-kva.de"),
        ("用户@例え。jp", "用户@xn--r8jz45g.jp"),
        ("a@r3---sn.example.com", "a@r3---sn.example.com"),
        ("a@1und1.de", "a@1und1.de"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[IPv6:2001:DB8::0:1]", "a@[IPv6:2001:db8::1]"),
        ("x" * 64 + "@b.de", "x" * 64 + "@b.de"),
    ],
)
def test_parse_path(given: str, normal: str) -> None:
    assert address.parse_path(given) == normal
    assert address.parse_path(normal) == normal


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "empty"),
        ("@b.de", "source route"),
        ("@a.de,@b.de:x@c.de", "source route"),
        ("a@", "domain is empty"),
        ("a@b@c.de", "not valid"),
        ("a b@c.de", "one bare address"),
        ("<a@b.de>", "one bare address"),
        (".a@b.de", "local part"),
        ("a.@b.de", "local part"),
        ("a..b@c.de", "double quotes"),
        ('"a@b.de', "unclosed quote"),
        ('"a"b@c.de', "after a quoted"),
        ("a@-b.de", "not valid"),
        ("a@b-.de", "not valid"),
        ("a@b..de", "not valid"),
        ("a@b_c.de", "not valid"),
        ("a@b.de.", "dot"),
        ("a@" + "x" * 64 + ".de", "not valid"),
        ("a@192.0.2.1", "[192.0.2.1]"),
        ("a@[192.0.2.256]", "address literal"),
        ("a@[192.0.2.1", "address literal"),
        ("a@[IPv6:fe80::1%eth0]", "address literal"),
        ("a@[tag:x]", "address literal"),
        ("a@xn--zzzz.de", "not valid"),
        ("a@☃.net", "not valid"),
        ("x" * 65 + "@b.de", "64 octets"),
        ("ü" * 33 + "@b.de", "64 octets"),
        ("a@" + ".".join(["x" * 60] * 4) + ".abcdefghij", "254 octets"),
        ("a" * 5000, "254 octets"),
    ],
)
def test_parse_path_refuses(given: str, says: str) -> None:
    with pytest.raises(AddressError) as caught:
        address.parse_path(given)
    assert says in str(caught.value)


CONTROLS = ["\0", "\t", "\n", "\r", "\r\n", "\x1f", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("frame", ["a{}b@c.de", '"a{}b"@c.de', "a@b{}c.de", "{}a@b.de", "a@b.de{}", '"a\\{}"@c.de'])
def test_no_control_character_passes(control: str, frame: str) -> None:
    text = frame.format(control)
    with pytest.raises(AddressError):
        address.parse_path(text)
    if control != "\t" or (not frame.startswith("{") and not frame.endswith("{}")):
        with pytest.raises(AddressError):
            address.parse_mailbox(text)


def test_a_local_part_alone_is_told_from_bad_syntax() -> None:
    for text in ("root", '"a b"'):
        with pytest.raises(UnqualifiedError):
            address.parse_path(text)


def test_the_domain_of_an_address() -> None:
    assert address.domain_of('"a@b"@c.de') == "c.de"
    assert address.domain_of("root") == address.domain_of("") == ""


@pytest.mark.parametrize(
    ("given", "name", "normal"),
    [
        (" a@b.de ", "", "a@b.de"),
        ("<a@b.de>", "", "a@b.de"),
        ("Ann Example <a@B.de>", "Ann Example", "a@b.de"),
        ("Ann (Sales) O'Neil <a@b.de>", "Ann (Sales) O'Neil", "a@b.de"),
        ("a@b.de <a@b.de>", "a@b.de", "a@b.de"),
        ('"Example, Ann" <a@b.de>', "Example, Ann", "a@b.de"),
        ('"An \\"A\\" \\\\ Ex" <a@b.de>', 'An "A" \\ Ex', "a@b.de"),
        ("Jürgen\tM <jürgen@bücher.de>", "Jürgen M", "jürgen@xn--bcher-kva.de"),
        ("=?utf-8?q?x?= <a@b.de>", "=?utf-8?q?x?=", "a@b.de"),
    ],
)
def test_parse_mailbox(given: str, name: str, normal: str) -> None:
    assert address.parse_mailbox(given) == Mailbox(name, normal)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Ann",
        "Ann <>",
        "a@b.de, c@d.de",
        "a@b.de, C <c@d.de>",
        "<a@b.de> <c@d.de>",
        'x" <a@b.de>',
        "a@b.de>",
        "A\nB <a@b.de>",
    ],
)
def test_parse_mailbox_refuses(given: str) -> None:
    with pytest.raises(AddressError):
        address.parse_mailbox(given)


def test_parse_mailbox_list() -> None:
    text = (
        'a@b.de, Ann Example <c@d.de> ,, "Example, Bob" <e@f.de>, Team: g@h.de, i@j.de (Ida \\) (x));,'
        " =?utf-8?q?J=C3=BCrgen?= <k@l.de>, a@b.c <m@n.de>"
    )
    assert address_list.parse_mailbox_list(text) == (
        Mailbox("", "a@b.de"),
        Mailbox("Ann Example", "c@d.de"),
        Mailbox("Example, Bob", "e@f.de"),
        Mailbox("", "g@h.de"),
        Mailbox("Ida \\) (x)", "i@j.de"),
        Mailbox("Jürgen", "k@l.de"),
        Mailbox("a@b.c", "m@n.de"),
    )
    assert address_list.parse_mailbox_list(" ") == ()
    with pytest.raises(UnqualifiedError):
        address_list.parse_mailbox_list("a@b.de, root")


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (b" a@B.de\r\n", ("a@b.de",)),
        (b" Ann Example <a@b.de>\r\n", ("a@b.de",)),
        (b' "Ann, x@y.de" <a@b.de>', ("a@b.de",)),
        (b" Ann\r\n Example\r\n\t<a@b.de>", ("a@b.de",)),
        (b" a@b.de (Ann (the one) x@y.de)", ("a@b.de",)),
        (b" (c) Ann <a@b.de> (tail), c@d.de", ("a@b.de", "c@d.de")),
        (b" a@b.de, a@B.DE", ("a@b.de",)),
        (b" Team: a@b.de, C <c@d.de>;", ("a@b.de", "c@d.de")),
        # A name with an @ outside quotes: a reader may show it as the sender.
        (b" evil@x.de <a@b.de>", ("evil@x.de", "a@b.de")),
        (b" =?utf-8?b?SsO8cmdlbg==?= <a@b.de>", ("a@b.de",)),
        (b" J\xfcrgen <a@b.de>", ("a@b.de",)),
        ("Jürgen <jürgen@bücher.de>".encode(), ("jürgen@xn--bcher-kva.de",)),
        (b" root", ("root",)),
        (b" root (Cron Daemon)", ("root",)),
        (b' "a b"@c.de, x@[192.0.2.1]', ('"a b"@c.de', "x@[192.0.2.1]")),
    ],
)
def test_header_addresses(field: bytes, found: tuple[str, ...]) -> None:
    assert address_list.header_addresses(field) == found


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b" <>",
        b" undisclosed-recipients:;",
        b" Ann Example",
        b' "Ann"',
        b" a@b.de c@d.de",
        b" <a@b.de><c@d.de>",
        b" <a@b.de> c@d.de",
        b" <a@b.de",
        b" a@b.de>",
        b" a@b.de; c@d.de",
        b" a@b.de (open",
        b' "open <a@b.de>',
        b" <@x.de:a@b.de>",
        b" a@b.de\\",
        b" a(x)@b.de",
        b" a @ b.de",
        b" <a@b.de(x)>",
        b" a@b.de\0",
        b" a@b.de\rX: y",
        b" =?utf-8?q?evil=40x.de?=@b.de",
        b" <=?utf-8?q?evil=40x.de?=@b.de>",
        b" =?utf-8?q?evil@x.de,?= <a@b.de>",
        b" =?utf-8?q?evil=40x.de_=3Cevil=40x.de=3E?= <a@b.de>",
        b" \xff@b.de",
        b" evil@x_y.de <a@b.de>",
        "a@b.de\u2028<c@d.de>".encode(),
    ],
)
def test_header_addresses_refuses_what_is_not_certain(field: bytes) -> None:
    with pytest.raises(AddressError):
        address_list.header_addresses(field)


@pytest.mark.parametrize(
    ("pattern", "given", "allowed"),
    [
        ("*", "a@b.de", True),
        ("*", "root", True),
        ("*", "unreadable From field", True),
        ("a@b.de", "a@b.de", True),
        ("A@B.de", "a@b.de", True),
        ("a@b.de", "A@b.de", True),
        ("a@b.de", "xa@b.de", False),
        ("a@b.de", "a@b.de.evil.com", False),
        ("*@b.de", "anything@b.de", True),
        ("*@b.de", "a@x.b.de", False),
        ("*@b.de", "a@xb.de", False),
        ("*@b.de", "root", False),
        ("*@b.de", "unreadable From field", False),
        ("*@b.de", '"x@b.de"@evil.com', False),
        ("*@b.de", '"x@evil.com"@b.de', True),
        ("*@*.b.de", "a@x.b.de", True),
        ("*@*.b.de", "a@y.x.b.de", True),
        ("*@*.b.de", "a@b.de", False),
        ("*@*.b.de", "a@xb.de", False),
        ("*@bücher.de", "a@xn--bcher-kva.de", True),
        ("*@*.bücher.de", "a@x.xn--bcher-kva.de", True),
        ("k@b.de", "\u212a@b.de", False),  # KELVIN SIGN
        ("*@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]", True),
        ("", "a@b.de", False),
        ("b.de", "a@b.de", False),
        ("n*@b.de", "no@b.de", False),
    ],
)
def test_matches(pattern: str, given: str, allowed: bool) -> None:
    assert address.matches(pattern, given) is allowed


@pytest.mark.parametrize("pattern", ["", "b.de", "@b.de", "n*@b.de", "*@*", "*@*.*.de", "*@*b.de", "**", "a@b.de\n"])
def test_check_pattern_refuses(pattern: str) -> None:
    with pytest.raises(AddressError):
        address.check_pattern(pattern)


@pytest.mark.parametrize(
    "hostile",
    ["(" * 200_000, '"' * 200_001, "a," * 100_000, "a@" * 100_000, "<" * 100_000, "=?" * 100_000, "\\" * 100_000],
)
def test_hostile_lists_take_linear_time(hostile: str) -> None:
    begin = time.process_time()
    with contextlib.suppress(AddressError):
        address_list.header_addresses(hostile.encode())
    assert time.process_time() - begin < 3  # quadratic would be minutes


def test_a_name_is_mapped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a fifth of a millisecond, and the composer reads each address again."""
    asked: list[str] = []
    encode = idna.encode

    def count(name: str, **given: bool) -> bytes:
        asked.append(name)
        return encode(name, **given)

    monkeypatch.setattr(idna, "encode", count)
    for _ in range(3):
        assert address.parse_path("a@mapped-once.xn--9ca.test") == "a@mapped-once.xn--9ca.test"
    assert asked == ["mapped-once.xn--9ca.test"]
