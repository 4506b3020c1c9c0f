"""Which relays a request may name, whose requests may, and how often."""

import ipaddress
from typing import Final

import pytest

from gateway.config import Listen, PassThrough
from gateway.delivery import relaylist
from gateway.delivery.relaylist import FAILURE_COST, RelayList, Throttle
from gateway.errors import Reason, Refused
from gateway.keyterms import Limit, Unit
from gateway.runtime import Clock

SMTP = Listen("smtp.example.com", 587)
SETTINGS = PassThrough(
    relays=(SMTP, Listen("smtp.example.com", 465), Listen("127.0.0.1", 2525), Listen("2001:db8::1", 25)),
    networks=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8:1::/48")),
)
CLIENT = "10.1.2.3"
GUARDED = [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "0.0.0.0",
    "::",
    "169.254.169.254",
    "fe80::1",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "::ffff:127.0.0.1",
    "::ffff:169.254.1.1",
]


def test_no_relay_is_listed_at_first() -> None:
    assert RelayList(PassThrough()).find("smtp.example.com", 587, "127.0.0.1") is None


@pytest.mark.parametrize("host", ["smtp.example.com", "SMTP.Example.COM", "smtp.example.com."])
@pytest.mark.parametrize(("port", "found"), [(None, 587), (587, 587), (465, 465), (25, None), (2525, None), (0, None)])
def test_a_relay_by_its_name(host: str, port: int | None, found: int | None) -> None:
    listed = RelayList(SETTINGS).find(host, port, CLIENT)
    assert listed == (Listen("smtp.example.com", found) if found else None)


@pytest.mark.parametrize("host", ["127.0.0.1", "2001:db8::1", "[2001:db8::1]", "2001:DB8::1"])
def test_a_relay_by_its_address(host: str) -> None:
    assert RelayList(SETTINGS).find(host, None, CLIENT) is not None


# None of them is the relay smtp.example.com, nor one of the addresses that are listed.
SPELLINGS: Final = (
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "017700000001",
    "0177.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.1..",
    "127.000.000.001",
    "127.0.0.2",
    "127.0.0.1:2525",
    "[127.0.0.1]",
    "::ffff:127.0.0.1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "::1",
    "[::1]",
    "localhost",
    "localhost.",
    "0.0.0.0",
    "0",
    "2001:db8:0::1",
    "2001:db8:0:0:0:0:0:1",
    "2001:db8::1%lo",
    "smtp.example.com..",
    ".smtp.example.com",
    "smtp.example.com:587",
    "smtp://smtp.example.com",
    "user@smtp.example.com",
    "smtp.example.com/",
    "smtp.example.com?x",
    "smtp.example.com#x",
    "smtp.example.com\\x",
    "smtp.example.com ",
    " smtp.example.com",
    "smtp.example.com\r\n",
    "smtp.example.com\0",
    "smtp%2eexample.com",
    "smtp。example。com",  # a full stop that IDNA maps to a dot
    "①27.0.0.1",
    "１２７.0.0.1",  # digits that NFKC maps to ASCII
    "ſmtp.example.com",  # a letter whose capital is S
    "smtp.example.com.evil.example",
    "evil.smtp.example.com",
    "",
    ".",
    "*",
)


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_other_spelling_is_a_relay(host: str) -> None:
    for port in (None, 25, 587, 2525):
        assert RelayList(SETTINGS).find(host, port, CLIENT) is None


@pytest.mark.parametrize(
    ("client", "served"),
    [
        ("10.255.0.1", True),
        ("::ffff:10.1.1.1", True),
        ("2001:db8:1:2::3", True),
        ("11.0.0.1", False),
        ("127.0.0.1", False),
        ("::ffff:11.0.0.1", False),
        ("2001:db8:2::1", False),
        ("", False),
        ("cli", False),
        ("10.0.0.1, 11.0.0.1", False),
    ],
)
def test_whose_requests_may(client: str, served: bool) -> None:
    assert (RelayList(SETTINGS).find("127.0.0.1", 2525, client) is not None) is served


@pytest.mark.parametrize("address", GUARDED)
def test_a_name_never_leads_to_this_machine_or_its_link(address: str) -> None:
    assert not relaylist.may_be_at("smtp.example.com", address)
    assert relaylist.may_be_at("localhost", address)
    assert relaylist.may_be_at(address, address)


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.0.5", "8.8.8.8", "fd00::1", "2a00::1", "::ffff:8.8.8.8"])
def test_a_name_may_lead_elsewhere(address: str) -> None:
    assert relaylist.may_be_at("smtp.example.com", address)


class Gate:
    """A throttle of six a minute, and its clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.refusal: Refused | None = None  # the last one
        clock = Clock(monotonic=lambda: self.now_s)
        self.throttle = Throttle(Limit(Unit.MESSAGES, 6, 60, 6), clock)

    def taken(self, client: str, username: str) -> int:
        """So many go through before one does not."""
        for number in range(100):
            try:
                self.throttle.take(client, username)
            except Refused as refusal:
                self.refusal = refusal
                return number
        raise AssertionError("there is no limit")


def test_a_client_has_its_own_limit() -> None:
    gate = Gate()
    assert sum(gate.taken("10.0.0.1", f"user{number}") for number in range(10)) == 6
    assert gate.taken("10.0.0.2", "another") == 6
    assert gate.refusal is not None
    assert (gate.refusal.reason, gate.refusal.retry_after_s) == (Reason.RATE_LIMITED, 10)


def test_a_user_has_its_own_limit_wherever_it_comes_from() -> None:
    gate = Gate()
    assert sum(gate.taken(f"10.0.0.{number}", "Ann@Example.com") for number in range(10)) == 6
    assert gate.taken("10.0.0.1", "ann@example.COM") == 0
    assert gate.taken("10.0.0.1", "cid@example.com") == 6  # what was refused cost its client nothing


def test_the_limit_comes_back() -> None:
    gate = Gate()
    gate.taken("10.0.0.1", "ann")
    gate.now_s += 20
    assert gate.taken("10.0.0.1", "ann") == 2


def test_a_failure_costs_several() -> None:
    gate = Gate()
    gate.throttle.take("10.0.0.1", "ann")
    gate.throttle.punish("10.0.0.1", "ann")
    assert gate.taken("10.0.0.1", "bob") == 6 - FAILURE_COST
    assert gate.taken("10.0.0.2", "ann") == 6 - FAILURE_COST


def test_a_failure_takes_the_rest_where_there_is_less() -> None:
    gate = Gate()
    for _ in range(5):
        gate.throttle.take("10.0.0.1", "ann")
    gate.throttle.punish("10.0.0.1", "ann")
    assert gate.taken("10.0.0.1", "bob") == 0
    gate.now_s += 10
    assert gate.taken("10.0.0.1", "bob") == 1  # no debt is kept
