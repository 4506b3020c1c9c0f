"""Sendmux's document: its two curl lines, and what its error handling reads."""

from collections.abc import Iterator

import pytest

from tests.peers import examples
from tests.peers.vendors import KEY, Vendors

pytestmark = pytest.mark.slow

# The document shows how an answer is read; this is how one is asked for.
FETCH = """\
const response = await fetch('https://smtp.sendmux.ai%s/api/v1/emails/send', {
  method: 'POST',
  headers: { 'Authorization': 'Bearer %s', 'Content-Type': 'application/json' },
  body: JSON.stringify({ from: { email: 'hello@example.com' }, to: { email: 'user@example.com' }, %s })
});
"""
WHOLE = "subject: 'Welcome', html_body: '<p>Hi.</p>'"
MOUNTS = ["", "/sendmux"]


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    with Vendors(tmp_path_factory.mktemp("sendmux")) as running:
        yield running


def _mounted(name: str, mount: str) -> str:
    return _mounted_with(name, mount, {"smx_mbx_your_key_here": KEY})


@pytest.mark.parametrize("mount", MOUNTS)
def test_curl(mount: str, vendors: Vendors) -> None:
    answer = examples.shell(vendors, _mounted("sendmux/curl", mount))
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body["ok"] is True
    assert answer.body["data"]["status"] == "queued"
    assert answer.body["meta"]["request_id"] == answer.headers["X-Request-Id"]
    [mail] = vendors.arrived()
    assert answer.body["data"]["message_id"] == mail.id("eml_")
    assert (mail.sender, mail.recipients) == ("hello@example.com", ["user@example.com"])
    assert mail.header("From") == "Your App <hello@example.com>"
    assert mail.header("To") == "Jane Doe <user@example.com>"
    assert mail.header("Subject") == "Welcome"
    assert (mail.html, mail.text) == ("<p>Thanks for signing up.</p>", "Thanks for signing up.")


@pytest.mark.parametrize("mount", MOUNTS)
def test_batch(mount: str, vendors: Vendors) -> None:
    answer = examples.shell(vendors, _mounted("sendmux/batch", mount))
    assert (answer.status, answer.body["ok"]) == (201, True)
    assert answer.body["data"]["summary"] == {"total": 2, "queued": 2, "failed": 0}
    results = answer.body["data"]["results"]
    mails = sorted(vendors.arrived(2), key=lambda mail: mail.recipients)
    assert [mail.header("Subject") for mail in mails] == ["Hello Alice", "Hello Bob"]
    assert [(one["index"], one["status"]) for one in results] == [(0, "queued"), (1, "queued")]
    assert [one["message_id"] for one in results] == [mail.id("eml_") for mail in mails]


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize(
    ("key", "more", "code"),
    [("smx_mbx_not_a_key_of_this_one", WHOLE, "authentication_required"), (KEY, "subject: 'Hi'", "missing_parameter")],
    ids=["key", "field"],
)
def test_error_handling(mount: str, key: str, more: str, code: str, vendors: Vendors) -> None:
    said = examples.node(vendors, FETCH % (mount, key, more) + examples.prepared("sendmux/javascript"))
    assert said.startswith(f"{code} "), said
    assert " req_" in said, "the request id to ask support about"


@pytest.mark.parametrize("mount", MOUNTS)
def test_error_handling_of_a_success_says_nothing(mount: str, vendors: Vendors) -> None:
    assert examples.node(vendors, FETCH % (mount, KEY, WHOLE) + examples.prepared("sendmux/javascript")) == ""
    vendors.arrived()


@pytest.mark.parametrize("mount", MOUNTS)
def test_no_provider_can_be_chosen_in_a_request(mount: str, vendors: Vendors) -> None:
    changes = {"smx_mbx_your_key_here": KEY, '"subject"': '"delivery_group": "a", "subject"'}
    answer = examples.shell(vendors, _mounted_with("sendmux/curl", mount, changes))
    assert (answer.status, answer.body["ok"]) == (422, False)
    assert "delivery_group" in answer.body["error"]["message"]


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_useful_options(mount: str, vendors: Vendors) -> None:
    options = """
    "cc": [{"email": "cc@example.com"}], "bcc": [{"email": "bcc@example.com"}],
    "reply_to": {"email": "answers@example.com"}, "return_path": "bounces@example.com",
    "custom_headers": {"X-Order": "17"},
    "attachments": [{"filename": "a.txt", "content": "SGkK", "type": "text/plain", "encoding": "base64"}],
    "subject"
    """
    changes = {
        "smx_mbx_your_key_here": KEY,
        '"subject"': options,
        '-H "Content': "-H 'Idempotency-Key: 1' -H \"Content",
    }
    text = _mounted_with("sendmux/curl", mount, changes)
    if mount:
        text = text.replace("Idempotency-Key: 1", "Idempotency-Key: 2")
    first, second = examples.shell(vendors, text), examples.shell(vendors, text)
    assert (first.status, second.status) == (201, 201)
    assert first.body["data"]["message_id"] == second.body["data"]["message_id"], "retried, and not sent twice"
    [mail] = vendors.arrived()
    assert mail.sender == "bounces@example.com"
    assert mail.recipients == ["bcc@example.com", "cc@example.com", "user@example.com"]
    assert mail.header("Reply-To") == "answers@example.com"
    assert mail.header("X-Order") == "17"
    assert "Bcc" not in mail.message
    [attachment] = mail.message.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content()) == ("a.txt", "Hi\n")


def _mounted_with(name: str, mount: str, changes: dict[str, str]) -> str:
    return examples.prepared(name, changes | {"/api/v1": f"{mount}/api/v1"})
