"""CloudMails' document: its examples in five languages, and the batch and status calls that it only describes."""

import ast
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.peers import examples
from tests.peers.client import Answer
from tests.peers.examples import Repair
from tests.peers.process import wait_until
from tests.peers.vendors import KEY, Mail, Vendors

pytestmark = pytest.mark.slow

HOST = "api.cloudmails.eu"
BEARER = {"Authorization": f"Bearer {KEY}"}
PLACEHOLDER = {"YOUR_API_KEY": KEY}
LOST_BRACES = "the page has lost the braces that put a value in"
PYTHON = (
    Repair('f"BASE_URL/send"', 'f"{BASE_URL}/send"', LOST_BRACES),
    Repair('f"Bearer API_KEY"', 'f"Bearer {API_KEY}"', LOST_BRACES),
)
JAVASCRIPT = (
    Repair("`BASE_URL/send`", "`${BASE_URL}/send`", LOST_BRACES),
    Repair("`Bearer API_KEY`", "`Bearer ${API_KEY}`", LOST_BRACES),
)
PHP = (
    Repair(
        "function sendEmail($to, $subject, $html, $text = null) {\n",
        "function sendEmail($to, $subject, $html, $text = null) {\n    global $apiKey, $baseUrl;\n",
        "a PHP function does not see the variables outside it: as printed it asks for the URL /send of no host",
    ),
)
GO = (Repair('"Bearer "API_KEY', '"Bearer "+API_KEY', "the page has lost the +"),)

# The example is a package without its entry: what a reader would write to call it.
GO_MAIN = """\
package main

import "fmt"

func main() {
	result, err := sendEmail("recipient@example.com", "Hello from CloudMails", "<h1>Hello</h1>", "Hello")
	fmt.Println(result["success"], result["message_id"], result["status"], err)
}
"""
ID = re.compile(r"msg_[a-z0-9]{24}")


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    with Vendors(tmp_path_factory.mktemp("cloudmails")) as running:
        yield running


def _arrived(vendors: Vendors, said: str) -> Mail:
    """The mail of an example, of whose id the client was told."""
    [mail] = vendors.arrived()
    assert (mail.sender, mail.recipients) == ("sender@yourdomain.com", ["recipient@example.com"])
    assert ID.findall(said) == [mail.id("msg_")]
    return mail


def test_curl(vendors: Vendors) -> None:
    answer = examples.shell(vendors, examples.prepared("cloudmails/curl", PLACEHOLDER))
    assert answer.status == 202
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body.keys() == {"success", "message_id", "status", "timestamp"}
    assert (answer.body["success"], answer.body["status"]) == (True, "sent")
    assert datetime.fromisoformat(answer.body["timestamp"]).tzinfo is not None
    mail = _arrived(vendors, answer.body["message_id"])
    assert mail.header("Subject") == "Test Email"
    assert mail.header("From") == "sender@yourdomain.com"
    assert "Reply-To" not in mail.message, "answers go to From"
    assert mail.html == "<html><body><h1>Hello</h1><p>This is a test email.</p></body></html>"
    assert mail.text == "Hello, this is a test email."


def test_python(vendors: Vendors) -> None:
    said = examples.python(vendors, examples.prepared("cloudmails/python", PLACEHOLDER, repairs=PYTHON))
    result = ast.literal_eval(said)
    assert (result["success"], result["status"]) == (True, "sent")
    mail = _arrived(vendors, result["message_id"])
    assert mail.header("Subject") == "Hello from CloudMails"
    assert mail.html == "<h1>Hello</h1><p>This is a test.</p>"


def test_javascript(vendors: Vendors) -> None:
    said = examples.node(vendors, examples.prepared("cloudmails/javascript", PLACEHOLDER, repairs=JAVASCRIPT))
    assert re.search(r"\bsuccess: true\b", said), said
    mail = _arrived(vendors, said)
    assert mail.html == "<h1>Hello</h1><p>This is a test email.</p>"
    assert mail.text is not None, "the example leaves text undefined: a text part is derived"


def test_php(vendors: Vendors) -> None:
    said = examples.php(vendors, examples.prepared("cloudmails/php", PLACEHOLDER, repairs=PHP))
    assert "[success] => 1\n" in said, said
    mail = _arrived(vendors, said)
    assert mail.html == "<h1>Hello</h1><p>This is a test email.</p>"
    assert mail.text is not None, "the example sends text: null: a text part is derived"


def test_go(vendors: Vendors) -> None:
    said = examples.go(vendors, examples.prepared("cloudmails/go", PLACEHOLDER, repairs=GO), GO_MAIN)
    assert re.fullmatch(rf"true {ID.pattern} sent <nil>\n", said), said
    mail = _arrived(vendors, said)
    assert (mail.html, mail.text) == ("<h1>Hello</h1>", "Hello")


def test_the_optional_fields(vendors: Vendors) -> None:
    more = """
    "reply_to": "answers@yourdomain.com", "cc": ["cc@example.com"], "bcc": ["bcc@example.com"],
    "attachments": [{"filename": "a.txt", "content": "SGkK", "content_type": "text/plain"}],
    "custom_args": {"user_id": "12345"}, "subject"
    """
    answer = examples.shell(vendors, examples.prepared("cloudmails/curl", PLACEHOLDER | {'"subject"': more}))
    assert answer.status == 202
    [mail] = vendors.arrived()
    assert mail.recipients == ["bcc@example.com", "cc@example.com", "recipient@example.com"]
    assert (mail.header("Cc"), mail.header("Reply-To")) == ("cc@example.com", "answers@yourdomain.com")
    assert "Bcc" not in mail.message
    [attachment] = mail.message.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content()) == ("a.txt", "Hi\n")


def _batch(vendors: Vendors, batch: str) -> dict[str, Any]:
    """The body of the document, sent with its base address and header fields."""
    headers = examples.prepared("cloudmails/headers", PLACEHOLDER)
    post = 'requests.post(BASE_URL + "/send/batch", headers=HEADERS, json=batch)'
    text = f"import json, requests\n{headers}\nbatch = {batch}\nanswer = {post}\n"
    answer = json.loads(examples.python(vendors, f"{text}print(json.dumps([answer.status_code, answer.json()]))"))
    assert answer[0] == 202
    assert isinstance(answer[1], dict)
    return answer[1]


def _body_of_batch() -> dict[str, Any]:
    body = json.loads(examples.printed("cloudmails/batch").partition("\n")[2])
    assert isinstance(body, dict)
    return body


def test_batch(vendors: Vendors) -> None:
    """As printed: nothing names a sender, so it is the key's; nothing has a value for {{name}}, so it stays."""
    answer = _batch(vendors, json.dumps(_body_of_batch()))
    assert (answer["success"], answer["accepted"]) == (True, 2)
    mails = sorted(vendors.arrived(2), key=lambda mail: mail.recipients)
    assert [mail.recipients for mail in mails] == [["user1@example.com"], ["user2@example.com"]]
    assert [one["index"] for one in answer["results"]] == [0, 1]
    assert [one["message_id"] for one in answer["results"]] == [mail.id("msg_") for mail in mails]
    for mail in mails:
        assert mail.header("From") == "sender@yourdomain.com"
        assert mail.header("Subject") == "Hello {{name}}"
        assert mail.html == "<p>Hi {{name}},</p><p>Your order #{{order_id}} is ready.</p>"


def test_batch_with_values(vendors: Vendors) -> None:
    batch = _body_of_batch()
    for message, name, number in zip(batch["messages"], ["Ann", "<Bob>"], [17, 18], strict=True):
        message["variables"] = {"name": name, "order_id": number}
    answer = _batch(vendors, repr(batch))
    assert answer["accepted"] == 2
    mails = sorted(vendors.arrived(2), key=lambda mail: mail.recipients)
    assert [mail.header("Subject") for mail in mails] == ["Hello Ann", "Hello <Bob>"]
    assert [mail.html for mail in mails] == [
        "<p>Hi Ann,</p><p>Your order #17 is ready.</p>",
        "<p>Hi &lt;Bob&gt;,</p><p>Your order #18 is ready.</p>",
    ]


def test_a_bad_message_in_a_batch_fails_alone(vendors: Vendors) -> None:
    batch = _body_of_batch()
    batch["messages"].insert(1, {"to": "nobody", "subject": "Hello", "html": "<p>Hi</p>"})
    answer = _batch(vendors, repr(batch))
    assert answer["accepted"] == 2
    assert [("error" in one, "message_id" in one) for one in answer["results"]] == [
        (False, True),
        (True, False),
        (False, True),
    ]
    assert sorted(mail.recipients for mail in vendors.arrived(2)) == [["user1@example.com"], ["user2@example.com"]]


def test_status(vendors: Vendors) -> None:
    sent = examples.shell(vendors, examples.prepared("cloudmails/curl", PLACEHOLDER))
    _arrived(vendors, sent.body["message_id"])
    found: list[Answer] = []

    def delivered() -> bool:
        path = f"/v1/emails/{sent.body['message_id']}"
        found.append(examples.request(vendors, "GET", path, host=HOST, headers=BEARER))
        return bool(found[-1].body["status"] == "delivered")

    wait_until(delivered, "delivered")
    assert found[-1].status == 200
    status = found[-1].body
    assert status.keys() == {
        "message_id",
        "status",
        "created_at",
        "delivered_at",
        "bounce_reason",
        "opens",
        "clicks",
    }
    assert status["message_id"] == sent.body["message_id"]
    assert datetime.fromisoformat(status["created_at"]) <= datetime.fromisoformat(status["delivered_at"])
    assert (status["bounce_reason"], status["opens"], status["clicks"]) == (None, 0, 0)


def test_no_such_message(vendors: Vendors) -> None:
    answer = examples.request(vendors, "GET", "/v1/emails/msg_abc123xyz", host=HOST, headers=BEARER)
    assert (answer.status, answer.body["error"]["code"]) == (404, "not_found")


def test_php_with_an_invalid_key(vendors: Vendors) -> None:
    text = examples.prepared("cloudmails/php", {"YOUR_API_KEY": "no-key-of-this-gateway"}, repairs=PHP)
    said = examples.php(vendors, text)
    assert "[code] => invalid_api_key\n" in said


def test_a_missing_field_is_400(vendors: Vendors) -> None:
    text = examples.prepared("cloudmails/curl", PLACEHOLDER | {'"subject": "Test Email",': ""})
    answer = examples.shell(vendors, text)
    assert (answer.status, answer.body["success"]) == (400, False)
    assert "subject" in json.dumps(answer.body["error"]["details"])


def test_under_the_name_of_the_dialect(vendors: Vendors) -> None:
    text = examples.prepared("cloudmails/curl", PLACEHOLDER | {"/v1/send": "/cloudmails/v1/send"})
    assert examples.shell(vendors, text).status == 202
    vendors.arrived()
