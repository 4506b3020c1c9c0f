"""The guide's document: its two JSON bodies, as printed and as meant."""

from collections.abc import Iterator

import pytest

from tests.peers import examples
from tests.peers.examples import Repair
from tests.peers.vendors import GUIDE, KEY, Vendors

pytestmark = pytest.mark.slow

QUOTES = (
    Repair("\u201c", '"', "the page prints typographic quotes, which are not JSON's"),
    Repair("\u201d", '"', "the same"),
    Repair("\u00a0", " ", "the page indents with no-break spaces, which are not JSON's white space"),
)
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    with Vendors(tmp_path_factory.mktemp("guide")) as running:
        yield running


@pytest.mark.parametrize("path", ["/send-email", "/guide/send-email"])
def test_the_request(path: str, vendors: Vendors) -> None:
    changes = {"YOUR_API_KEY": KEY, "/send-email": path}
    answer = examples.sent(vendors, examples.prepared("guide/request", changes, repairs=QUOTES), host=GUIDE)
    assert answer.status == 202
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body["status"] == "accepted"
    [mail] = vendors.arrived()
    assert answer.body["id"] == answer.body["message_id"] == mail.id("eml_"), "the id to log"
    assert (mail.sender, mail.recipients) == ("you@yourdomain.com", ["user@example.com"])
    assert mail.header("Subject") == "Welcome!"
    assert (mail.html, mail.text) == (None, "Hello from [SMTP REST API]")


def test_the_payload(vendors: Vendors) -> None:
    body = examples.prepared("guide/payload", repairs=QUOTES)
    answer = examples.request(vendors, "POST", "/send-email", host=GUIDE, body=body, headers=HEADERS)
    assert answer.status == 202
    [mail] = vendors.arrived()
    assert mail.header("From") == "sender@yourdomain.com"
    assert mail.text == "Thanks for signing up. We\u2019re glad to have you."


@pytest.mark.parametrize("name", ["request", "payload"])
def test_as_printed_the_answer_names_the_quotes(name: str, vendors: Vendors) -> None:
    body = "{" + examples.printed(f"guide/{name}").partition("{")[2]
    answer = examples.request(vendors, "POST", "/send-email", host=GUIDE, body=body, headers=HEADERS)
    assert (answer.status, answer.body["error"]) == (400, "invalid_json")
    assert "typographic quotes" in answer.body["message"]


def test_an_invalid_key(vendors: Vendors) -> None:
    text = examples.prepared("guide/request", {"YOUR_API_KEY": "no-key-of-this-gateway"}, repairs=QUOTES)
    answer = examples.sent(vendors, text, host=GUIDE)
    assert answer.status == 401
    assert answer.body["error"] == "authentication_required"
    assert answer.body["message"]
