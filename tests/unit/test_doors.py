"""The doors tell the mail log whom they did not let in, and show nobody another's mail."""

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway import doors
from gateway.app import Core
from gateway.config import CaptureRoute, Config, KeyConfig, Secret
from gateway.delivery.passthrough import PassThrough
from gateway.delivery.waits import Waits
from gateway.errors import Reason, Refused
from gateway.events import State
from gateway.manage.mail import AccountMail
from gateway.policy import auth
from gateway.policy.auth import Principal
from gateway.policy.guard import Guard
from gateway.resolver import Resolver
from gateway.store.shown import Filter
from tests.unit.conftest import MAIL, sender_and_recipients

SECRET = "cfg_0123456789abcdefghijklmnop"
PRINTER = "printer_0123456789abcdefghijkl"
NOREPLY = "noreply_0123456789abcdefghijkl"
WRONG = "wrong_secret_that_nobody_has"
PEER = "192.0.2.7"


class Entrance:
    """Both doors over one data directory."""

    def __init__(self, core: Core) -> None:
        self.core = core
        guard = Guard(core.config.limits.auth_failures, core.clock)
        self.http = doors.HttpDoor(
            core.keys,
            core.intake,
            core.store,
            limiter=core.limiter,
            waits=Waits(core.store, core.clock),
            pass_through=PassThrough(core.config, core.store, Resolver(()), clock=core.clock, log=core.mail_log),
            templates=core.templates,
            mail=AccountMail(core.store, core.tokens, core.clock),
            suppressions=core.suppression_list,
            webhooks=core.webhooks.manager,
            clock=core.clock,
            log=core.mail_log,
            why_not_ready=lambda: None,
            guard=guard,
        )
        self.smtp = doors.SmtpDoor(core.keys, core.intake, core.clock, core.mail_log, guard=guard)

    def knock(self, door: str, secret: str, peer: str = PEER, login: str = "anything") -> Principal:
        if door == "http":
            return self.http.authenticate(secret, peer, login=login)
        return self.smtp.authenticate(login, secret, peer)

    def told(self, log: io.StringIO) -> str:
        self.core.mail_log.flush()
        return log.getvalue()


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
async def entrance(tmp_path: Path, log: io.StringIO) -> AsyncIterator[Entrance]:
    config = Config(
        hostname="localhost",
        data_dir=tmp_path,
        routes={"inbox": CaptureRoute("inbox")},
        default_route="inbox",
        keys={
            "shop": KeyConfig("shop", Secret(SECRET), "acme"),
            "printer": KeyConfig(
                "printer",
                Secret(PRINTER),
                "acme",
                senders=("*@example.com",),
                networks=(ip_network("198.51.100.0/24"),),
                default_domain="example.com",
                aliases=(("root", "ops@example.com"),),
            ),
            "noreply": KeyConfig(
                "noreply", Secret(NOREPLY), "acme", senders=("*@example.com",), rewrite_from="noreply@example.com"
            ),
        },
    )
    async with Core(config, log_stream=log) as core:
        yield Entrance(core)


async def test_who_is_let_in(entrance: Entrance) -> None:
    assert entrance.http.authenticate(SECRET, PEER).name == "shop"
    assert entrance.smtp.authenticate("anything", SECRET, PEER).name == "shop"
    assert entrance.smtp.network_principal("shop").account == "acme"
    assert entrance.http.ready() is None


@pytest.mark.parametrize("door", ["http", "smtp"])
@pytest.mark.parametrize(
    ("secret", "login", "key", "why"),
    [
        (WRONG, "shop", '""', "no key has this text"),
        ("", "shop", '""', "no key was given"),
        (PRINTER, "", "printer", "the key is not for this address"),
        (SECRET, "printer", "shop", "the user name is the name of another key"),
    ],
)
async def test_one_answer_for_the_client_and_the_reason_for_the_operator(
    entrance: Entrance, log: io.StringIO, door: str, secret: str, login: str, key: str, why: str
) -> None:
    with pytest.raises(Refused) as refusal:
        entrance.knock(door, secret, login=login)
    assert refusal.value.reason is Reason.AUTHENTICATION_REQUIRED
    assert refusal.value.text == "The key is missing, unknown, expired or revoked."
    line = f'refused door={door} key={key} client={PEER} reason=authentication_required text="{why}"'
    assert line in entrance.told(log)
    assert not secret or secret not in log.getvalue()


async def test_a_key_bound_to_networks_works_there(entrance: Entrance) -> None:
    for door in ("http", "smtp"):
        assert entrance.knock(door, PRINTER, "198.51.100.7").name == "printer"


async def test_an_open_session_has_its_key_as_it_is_now(entrance: Entrance, log: io.StringIO) -> None:
    actions = entrance.core.actions()
    made = await actions["key.create"]({"name": "app"})
    app = entrance.knock("smtp", made["secret"])
    assert entrance.smtp.check_sender(app, "a@example.com", PEER) == "a@example.com"
    await actions["key.mode"]({"name": "app", "mode": "hold"})
    await entrance.smtp.begin(app, sender_and_recipients()).finish(MAIL)
    (row,) = await entrance.core.store.find(Filter())
    assert row.recipient.state is State.HELD
    await actions["key.revoke"]({"name": "app"})
    with pytest.raises(Refused) as refusal:
        entrance.smtp.check_sender(app, "a@example.com", PEER)
    assert refusal.value.reason is Reason.AUTHENTICATION_REQUIRED
    with pytest.raises(Refused):
        entrance.smtp.begin(app, sender_and_recipients())
    assert f"refused door=smtp key=app client={PEER}" in entrance.told(log)


async def test_a_session_ends_with_the_text_that_began_it(entrance: Entrance, log: io.StringIO) -> None:
    actions, smtp = entrance.core.actions(), entrance.smtp
    first = (await actions["key.create"]({"name": "app"}))["secret"]
    app, network = entrance.knock("smtp", first), smtp.network_principal("app")
    second = (await actions["key.rotate"]({"name": "app", "overlap_s": 60}))["secret"]
    smtp.check_sender(app, "a@example.com", PEER)  # its text is good for a minute
    newer = entrance.knock("smtp", second)
    assert app == newer
    await actions["key.rotate"]({"name": "app", "overlap_s": 0})
    for gone in (app, newer):
        with pytest.raises(Refused) as refusal:
            smtp.check_sender(gone, "a@example.com", PEER)
        assert refusal.value.reason is Reason.AUTHENTICATION_REQUIRED
        with pytest.raises(Refused):
            smtp.begin(gone, sender_and_recipients())
    line = f'refused door=smtp key=app client={PEER} reason=authentication_required text="no key has this text"'
    assert line in entrance.told(log)
    smtp.check_sender(network, "a@example.com", PEER)  # it showed none


async def test_a_namesake_is_another_key(entrance: Entrance) -> None:
    """As after a reload: what was let in by a text is not let in by the name of the key."""
    shop = entrance.knock("smtp", SECRET)
    entrance.core.keys.declare([(replace(shop, account="other"), auth.digest(WRONG))])
    with pytest.raises(Refused):
        entrance.smtp.check_sender(shop, "a@example.com", PEER)


async def test_a_session_from_elsewhere_ends_with_new_networks(entrance: Entrance) -> None:
    shop = entrance.knock("smtp", SECRET)
    entrance.core.keys.declare([(replace(shop, networks=(ip_network("10.0.0.0/8"),)), auth.digest(SECRET))])
    with pytest.raises(Refused):
        entrance.smtp.check_sender(shop, "a@example.com", PEER)


async def test_guesses_at_one_door_count_at_the_other(entrance: Entrance, log: io.StringIO) -> None:
    reasons = []
    for number in range(100):
        with pytest.raises(Refused) as refusal:
            entrance.knock(("http", "smtp")[number % 2], f"{number}{WRONG}")
        reasons.append(refusal.value.reason)
    assert 0 < reasons.count(Reason.AUTHENTICATION_REQUIRED) <= 10
    assert reasons[-1] is Reason.THROTTLED
    assert entrance.told(log).count("\n") <= 11  # who knocks a thousand times does not fill the log
    assert "reason=rate_limit_exceeded" in log.getvalue()
    for door in ("http", "smtp"):
        with pytest.raises(Refused):
            entrance.knock(door, SECRET)
        assert entrance.knock(door, SECRET, "192.0.2.8").name == "shop"


async def test_a_forgotten_key_is_told_so_each_time_and_stops_nobody(entrance: Entrance, log: io.StringIO) -> None:
    for number in range(100):
        with pytest.raises(Refused) as refusal:
            entrance.knock(("http", "smtp")[number % 2], WRONG)
        assert refusal.value.reason is Reason.AUTHENTICATION_REQUIRED
    assert entrance.knock("http", SECRET).name == "shop"
    assert entrance.told(log).count("no key has this text") == 1


async def test_no_key_is_no_guess(entrance: Entrance, log: io.StringIO) -> None:
    for _ in range(100):
        with pytest.raises(Refused) as refusal:
            entrance.knock("http", "")
        assert refusal.value.reason is Reason.AUTHENTICATION_REQUIRED
    assert entrance.knock("http", SECRET).name == "shop"
    assert entrance.told(log).count("no key was given") == 1


async def test_addresses_of_old_programs_are_completed(entrance: Entrance, log: io.StringIO) -> None:
    smtp = entrance.smtp
    printer = smtp.network_principal("printer")
    assert smtp.check_sender(printer, "scanner", PEER) == "scanner@example.com"
    assert smtp.check_sender(printer, "", PEER) == ""
    assert smtp.check_recipient(printer, "Root", PEER) == "ops@example.com"
    assert smtp.check_recipient(printer, "b@example.net", PEER) == "b@example.net"
    with pytest.raises(Refused) as refusal:
        smtp.check_recipient(smtp.network_principal("shop"), "root", PEER)
    assert refusal.value.reason is Reason.UNQUALIFIED
    assert f"refused door=smtp key=shop client={PEER} " in entrance.told(log)


async def test_what_is_sent_is_what_must_be_allowed(entrance: Entrance) -> None:
    smtp = entrance.smtp
    noreply, printer = smtp.network_principal("noreply"), smtp.network_principal("printer")
    assert smtp.check_sender(noreply, "root@whatever.invalid", PEER) == "noreply@example.com"
    assert smtp.check_sender(noreply, "root", PEER) == "noreply@example.com"
    assert smtp.check_sender(noreply, "", PEER) == ""
    with pytest.raises(Refused) as refusal:
        smtp.check_sender(printer, "root@whatever.invalid", PEER)
    assert refusal.value.reason is Reason.SENDER_NOT_ALLOWED


async def test_a_network_whose_key_is_gone_is_told(entrance: Entrance, log: io.StringIO) -> None:
    with pytest.raises(Refused):
        entrance.smtp.network_principal("gone")
    entrance.core.mail_log.flush()
    assert "refused door=smtp key=gone " in log.getvalue()


async def test_anothers_message_is_not_there(entrance: Entrance) -> None:
    actions = entrance.core.actions()
    sent = await actions["send"](
        {"key": "shop", "body": {"from": "a@example.com", "to": "b@example.net", "text_body": "x"}}
    )
    shown = await actions["queue.show"]({"id": sent["message_id"]})
    await actions["key.create"]({"name": "other", "secret": SECRET[::-1]})
    uuid = (await entrance.core.store.find(Filter()))[0].uuid
    mine = entrance.http.authenticate(SECRET, "")
    theirs = entrance.http.authenticate(SECRET[::-1], "")
    assert shown["account"] == "acme"
    assert await entrance.http.status(mine, uuid) is not None
    assert await entrance.http.status(theirs, uuid) is None
