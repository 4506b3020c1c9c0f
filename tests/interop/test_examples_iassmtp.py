"""i-as's document where no relay is named: the password is a key. With a relay: test_examples_relay.py."""

import re
from collections.abc import Iterator

import pytest

from tests.peers import examples
from tests.peers.vendors import HOSTNAME, KEY, Mail, Vendors

pytestmark = pytest.mark.slow

HOST = "api.i-as.dev"
RECIPIENTS = ["cc_email@example.com", "to_email@example.com"]


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    with Vendors(tmp_path_factory.mktemp("iassmtp")) as running:
        yield running


def _arrived(vendors: Vendors, subject: str) -> Mail:
    [mail] = vendors.arrived()
    assert (mail.sender, mail.recipients) == ("your_email@example.com", RECIPIENTS)
    assert mail.header("To") == "to_email@example.com"
    assert mail.header("Cc") == "cc_email@example.com"
    assert mail.header("Subject") == subject
    assert (mail.html, mail.text) == (None, "Hello, Test Email From API")
    return mail


def test_javascript(vendors: Vendors) -> None:
    said = examples.node(vendors, examples.prepared("iassmtp/javascript", {"your_password": KEY}))
    assert said.startswith("Successfully: {"), said
    mail = _arrived(vendors, "Test Api")
    assert re.search(r"accepted: \[ 'to_email@example\.com', 'cc_email@example\.com' \]", said)
    assert f"messageId: '{mail.header('Message-ID')}'" in said


def test_javascript_with_a_wrong_password_says_why(vendors: Vendors) -> None:
    said = examples.node(vendors, examples.prepared("iassmtp/javascript", {"your_password": "no-key-of-this-gateway"}))
    assert said == "Failed to send email: Authentication failed\n"


@pytest.mark.parametrize("path", ["/api/smtp", "/iassmtp/api/smtp"])
def test_the_json_body_with_the_configuration_headers(path: str, vendors: Vendors) -> None:
    answer = examples.request(
        vendors,
        "POST",
        path,
        host=HOST,
        body=examples.prepared("iassmtp/payload"),
        headers={
            "Content-Type": "application/json",
            "server": HOSTNAME,
            "port": "587",
            "secure": "true",
            "email": "your_email@example.com",
            "password": KEY,
        },
    )
    assert (answer.status, answer.body["message"]) == (200, "Email sent successfully")
    mail = _arrived(vendors, "Test API")
    info = answer.body["info"]
    assert sorted(info["accepted"]) == RECIPIENTS
    assert info["rejected"] == []
    assert isinstance(info["envelopeTime"], int)
    assert isinstance(info["messageTime"], int)
    assert info["messageSize"] > len("Hello, Test Email From API")
    assert info["response"].startswith("250 ")
    assert info["envelope"]["from"] == "your_email@example.com"
    assert sorted(info["envelope"]["to"]) == RECIPIENTS
    assert info["messageId"] == mail.header("Message-ID")


@pytest.mark.parametrize("missing", ["server", "port", "secure", "email", "password"])
def test_a_missing_header_is_named(missing: str, vendors: Vendors) -> None:
    headers = {
        "server": HOSTNAME,
        "port": "587",
        "secure": "true",
        "email": "your_email@example.com",
        "password": KEY,
    }
    del headers[missing]
    answer = examples.request(
        vendors,
        "POST",
        "/api/smtp",
        host=HOST,
        body=examples.prepared("iassmtp/payload"),
        headers={"Content-Type": "application/json", **headers},
    )
    assert answer.status == 400
    assert missing in answer.body["message"]
