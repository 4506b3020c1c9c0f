"""Overton's document: its three examples against a daemon that has its host's name, and the two answers it prints."""

import ast
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers import examples
from tests.peers.vendors import KEY, Vendors

pytestmark = pytest.mark.slow

HOST = "smtpapi.mxroute.com"
TEXT = "This message was sent over HTTPS."


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    with Vendors(tmp_path_factory.mktemp("overton")) as running:
        yield running


def _check_arrival(vendors: Vendors) -> None:
    [mail] = vendors.arrived()
    assert (mail.sender, mail.recipients) == ("you@yourdomain.com", ["recipient@example.com"])
    assert mail.header("From") == "you@yourdomain.com"
    assert mail.header("To") == "recipient@example.com"
    assert mail.header("Subject") == "Hello from the API"
    assert mail.html == f"<p>{TEXT}</p>"
    assert mail.text == TEXT, "HTML alone: a text part is derived"


def _printed_by_python(text: str) -> dict[str, Any]:
    found = ast.literal_eval(text)
    assert isinstance(found, dict)
    return found


def test_the_request_as_it_is_on_the_wire(vendors: Vendors) -> None:
    text = examples.prepared("overton/request", {"your-password": KEY})
    answer = examples.sent(vendors, text, host=HOST)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body == {"success": True, "message": "Email sent successfully."}
    _check_arrival(vendors)


def test_under_the_name_of_the_dialect(vendors: Vendors) -> None:
    changes = {"your-password": KEY, "POST / HTTP": "POST /overton/ HTTP"}
    assert examples.sent(vendors, examples.prepared("overton/request", changes), host=HOST).body["success"] is True
    _check_arrival(vendors)


def test_curl(vendors: Vendors) -> None:
    answer = examples.shell(vendors, examples.prepared("overton/curl"), MAIL_PASSWORD=KEY)
    assert (answer.status, answer.body["success"]) == (200, True)
    _check_arrival(vendors)


def test_python(vendors: Vendors) -> None:
    said = examples.python(vendors, examples.prepared("overton/python"), MAIL_PASSWORD=KEY)
    assert _printed_by_python(said)["success"] is True
    _check_arrival(vendors)


def test_python_with_a_wrong_password_prints_the_documents_failure(vendors: Vendors) -> None:
    said = examples.python(vendors, examples.prepared("overton/python"), MAIL_PASSWORD="wrong")
    failure = _printed_by_python(said)
    assert {name: failure[name] for name in ("success", "error")} == {
        "success": False,
        "error": "Authentication failed",
    }


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("recipient@example.com", "recipient@example.com, other@example.com", "to"),
        ("Hello from the API", "Hello\\nfrom the API", "subject"),
        ('"subject"', '"attachments": [{"filename": "a.txt"}], "subject"', "attachments"),
    ],
    ids=["recipients", "subject", "attachments"],
)
def test_the_limitations(old: str, new: str, named: str, vendors: Vendors) -> None:
    text = examples.prepared("overton/request", {"your-password": KEY, old: new})
    answer = examples.sent(vendors, text, host=HOST)
    assert (answer.status, answer.body["success"]) == (400, False)
    assert answer.body["error"].startswith(f"{named}: ")
