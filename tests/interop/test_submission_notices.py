"""What real clients say of notifications (RFC 3461), read from the daemon's store: Postfix as a client, and swaks."""

import smtplib
import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import MakeDaemon
from tests.peers.client import message_bytes
from tests.peers.daemon import Daemon
from tests.peers.postfix import Postfix
from tests.peers.process import wait_until
from tests.peers.programs import swaks

pytestmark = pytest.mark.slow

RECIPIENT: Final = "you+x@example.net"
ASKED_ALL: Final = 15  # success, failure, delay, and that the client said so
BY_SMTP: Final = 6  # failure and delay, which nobody asked for
QUERY: Final = (
    "SELECT r.address, r.notify, r.orcpt, m.envid FROM recipient r JOIN message m ON m.id = r.message ORDER BY 1"
)


def _settings(port: int) -> dict[str, Any]:
    """Everything is captured, from this machine with or without a key."""
    listener = {"listen": f"127.0.0.1:{port}", "tls": "none", "auth": "optional", "networks": {"127.0.0.0/8": "shop"}}
    return {
        "routes": {"inbox": {"type": "capture"}},
        "default_route": "inbox",
        "smtp": {"listeners": [listener]},
    }


def _rows(daemon: Daemon) -> list[tuple[str, int, str, str]]:
    store = sqlite3.connect(f"file:{Path(daemon.data) / 'gateway.db'}?mode=ro", uri=True)
    try:
        return store.execute(QUERY).fetchall()
    finally:
        store.close()


def test_postfix_hands_on_what_it_was_told(make_daemon: MakeDaemon, port: int) -> None:
    settings = {
        "relayhost": f"[127.0.0.1]:{port}",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "virtual_mailbox_domains": "",
    }
    with Postfix(settings=settings) as postfix, make_daemon(_settings(port)) as daemon:
        with smtplib.SMTP("127.0.0.1", postfix.port) as client:
            client.sendmail(
                "shop@example.com",
                [RECIPIENT],
                message_bytes(RECIPIENT),
                mail_options=["RET=HDRS", "ENVID=order+2B4711"],
                rcpt_options=["NOTIFY=SUCCESS,FAILURE,DELAY", "ORCPT=rfc822;Someone+2Belse@example.net"],
            )
        wait_until(lambda: len(_rows(daemon)) == 1, "the message is there")
        assert _rows(daemon) == [(RECIPIENT, ASKED_ALL, "rfc822;Someone+2Belse@example.net", "order+2B4711")]
        sent = "status=sent (250 2.0.0 queued as eml_"
        wait_until(lambda: sent in postfix.log(), "Postfix has written what it was answered")


def test_a_client_that_asks_for_nothing(make_daemon: MakeDaemon, port: int) -> None:
    with make_daemon(_settings(port)) as daemon:
        swaks(port, RECIPIENT)
        assert _rows(daemon) == [(RECIPIENT, BY_SMTP, "", "")]
