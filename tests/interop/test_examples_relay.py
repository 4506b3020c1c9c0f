"""The examples that name a relay, passed through to a real Postfix with the credentials of the request."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers import examples
from tests.peers.postfix import PASSWORD, USER, Postfix
from tests.peers.process import listens, missing
from tests.peers.vendors import HOSTNAME, Vendors

pytestmark = pytest.mark.slow

SUBMISSION = 587  # what the examples name; pass-through allows no port that is not for mail
DOMAINS = ("example.com", "gmail.com")
LOGIN = "your_email@example.com:your_password"
CURL = {LOGIN: f"{USER}:{PASSWORD}", "smtp.example.com": "localhost"}


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    relays = {"relays": [f"localhost:{SUBMISSION}"], "networks": ["127.0.0.0/8"]}
    with Vendors(tmp_path_factory.mktemp("relay"), {"pass_through": relays}) as running:
        yield running


@pytest.fixture(scope="module")
def postfix(vendors: Vendors) -> Iterator[Postfix]:
    """A relay for those who log in over TLS, with a certificate that the gateway trusts."""
    if listens(SUBMISSION):
        missing(f"somebody else listens on port {SUBMISSION}")
    relay = Postfix(submission=True, domains=DOMAINS)
    relay.port = SUBMISSION
    chain = relay.directory / "names.pem"
    chain.write_text("".join(vendors.certificate[name].read_text() for name in ("key", "certificate")))
    chain.chmod(0o600)
    relay.settings["smtpd_tls_chain_files"] = str(chain)
    with relay as running:
        yield running


def _check(arrived: bytes, *, sender: str, subject: str) -> None:
    assert f"From: {sender}\n".encode() in arrived
    assert f"Subject: {subject}\n".encode() in arrived
    assert b"(using TLSv1." in arrived
    assert f"(Authenticated sender: {USER}@".encode() in arrived


def _curl(vendors: Vendors) -> dict[str, Any]:
    """Run the example and return its `info`."""
    answer = examples.shell(vendors, examples.prepared("iassmtp/curl", CURL))
    assert (answer.status, answer.body["message"]) == (200, "Email sent successfully")
    info = answer.body["info"]
    assert isinstance(info, dict)
    return info


def test_iassmtp_curl(vendors: Vendors, postfix: Postfix) -> None:
    before = len(postfix.messages())
    info = _curl(vendors)
    assert info["accepted"] == ["to_email@gmail.com", "cc_email@gmail.com"]
    assert info["rejected"] == []
    assert info["response"].startswith("250 2.0.0 Ok: queued as ")
    assert info["envelope"] == {"from": "your_email@testapi.com", "to": info["accepted"]}
    arrived = postfix.wait_for(before + 2)[-1]  # one file for each recipient
    _check(arrived, sender="your_email@testapi.com", subject="Test Api")
    assert f"Message-ID: {info['messageId']}\n".encode() in arrived


def test_iassmtp_curl_with_a_wrong_password(vendors: Vendors, postfix: Postfix) -> None:
    text = examples.prepared("iassmtp/curl", CURL | {LOGIN: f"{USER}:wrong"})
    answer = examples.shell(vendors, text)
    assert (answer.status, answer.body) == (401, {"message": "Authentication failed"})


def test_overton_python(vendors: Vendors, postfix: Postfix) -> None:
    before = len(postfix.messages())
    changes = {HOSTNAME: "localhost", '"username": "you@yourdomain.com"': f'"username": "{USER}"'}
    text = examples.prepared("overton/python", changes)
    said = examples.python(vendors, text, MAIL_PASSWORD=PASSWORD)
    assert "'success': True" in said, said
    arrived = postfix.wait_for(before + 1)[-1]
    _check(arrived, sender="you@yourdomain.com", subject="Hello from the API")


def test_a_relay_that_is_not_listed(vendors: Vendors, postfix: Postfix) -> None:
    before = len(postfix.messages())
    answer = examples.shell(vendors, examples.prepared("iassmtp/curl", {LOGIN: f"{USER}:{PASSWORD}"}))
    assert answer.status == 403
    assert len(postfix.messages()) == before


def test_the_password_stays_nowhere(vendors: Vendors, postfix: Postfix) -> None:
    """Neither in the log nor in any file of the gateway."""
    assert _curl(vendors)
    kept = [path for path in vendors.daemon.directory.rglob("*") if path.is_file()]
    assert vendors.daemon.log in kept
    assert [path for path in kept if PASSWORD.encode() in path.read_bytes()] == []
