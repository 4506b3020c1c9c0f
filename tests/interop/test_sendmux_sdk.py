"""Sendmux' own Python SDK against the daemon: what its users read of successes and errors, and its retries.

It is generated, and reads an answer of 200 only; the vendor's document says 201, and so does the gateway unless
`dialects.sendmux.success_status` is 200.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sendmux_core import RetryOptions, SendmuxApiError
from sendmux_sending import (
    Address,
    BatchSendRequest,
    EmailsApi,
    EmailSendRequest,
    EmailSendRequestDeliveryGroup,
    InlineAttachment,
    MetaApi,
    Recipient,
    SendmuxSendingApiClient,
    attachment_from_file,
    create_sending_client,
    upload_attachment_from_file,
)
from sendmux_sending import Attachment as AnyAttachment

from tests.conftest import MakeDaemon
from tests.peers.daemon import Daemon, relay_to
from tests.peers.lossy import LossyProxy
from tests.peers.sink import Sink

pytestmark = pytest.mark.slow

KEY = "smx_mbx_key_for_the_vendors_sdk"
SLOW_KEY = "smx_mbx_key_with_a_small_limit1"
BASE = "/api/v1"
STRICT = "/sendmux/api/v1"


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


@pytest.fixture(scope="module")
def daemon(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("sdk")
    with Daemon(directory / "gateway", _settings(directory, sink, status=200)) as running:
        yield running


def _settings(directory: Path, sink: Sink, *, status: int) -> dict[str, Any]:
    limits: dict[str, Any] = {"slow": {"limits": [{"messages": "1/min"}]}}
    keys: dict[str, Any] = {}
    for name, text in (("app", KEY), ("slow", SLOW_KEY)):
        secret = directory / f"{name}.secret"
        secret.write_text(text)
        secret.chmod(0o600)
        keys[name] = {"secret": {"file": str(secret)}, "account": name, "from": ["*@example.com"]}
        keys[name] |= limits.get(name, {})
    return {"keys": keys, "dialects": {"sendmux": {"success_status": status}}} | relay_to(sink.port)


def _client(
    port: int, *, key: str = KEY, base: str = BASE, slept: list[float] | None = None
) -> SendmuxSendingApiClient:
    """As its README makes one, but for the address; `slept` has the pauses between attempts, which are not made."""
    pauses: list[float] = slept if slept is not None else []
    return create_sending_client(
        api_key=key, base_url=f"http://127.0.0.1:{port}{base}", retry_options=RetryOptions(sleep=pauses.append)
    )


def _mail(recipient: str, **more: Any) -> EmailSendRequest:
    fields = {"var_from": Address(email="shop@example.com"), "subject": "Hello from Sendmux", "text_body": "Hello."}
    return EmailSendRequest(to=Address(email=recipient), html_body="<p>Hello.</p>", **(fields | more))


def _send(port: int, mail: EmailSendRequest, *, named: str | None = None, **client: Any) -> Any:
    with _client(port, **client) as api_client:
        return EmailsApi(api_client).sending_send_email(mail, idempotency_key=named)


def _arrived(sink: Sink, recipient: str) -> list[bytes]:
    """What this recipient got; at least one."""
    sink.wait_for_recipients({recipient})
    return [one.content for one in sink.by_recipient()[recipient]]


@pytest.mark.parametrize("base", [BASE, STRICT])
def test_send(base: str, daemon: Daemon, sink: Sink) -> None:
    recipient = f"send-{len(base)}@example.net"
    response = _send(daemon.http_port, _mail(recipient), base=base)
    assert (response.ok, response.data.status) == (True, "queued")
    assert response.data.message_id.startswith("eml_")
    assert response.meta.request_id
    [content] = _arrived(sink, recipient)
    assert b"\r\nSubject: Hello from Sendmux\r\n" in content


def test_every_option(daemon: Daemon, sink: Sink) -> None:
    attached = InlineAttachment(filename="a.txt", content="SGkK", type="text/plain", encoding="base64")
    mail = _mail(
        "option@example.net",
        cc=[Recipient(email="option-cc@example.net", name="Carl")],
        bcc=[Recipient(email="option-bcc@example.net")],
        reply_to=Address(email="answers@example.com"),
        return_path="bounces@example.com",
        custom_headers={"X-Order": "17"},
        attachments=[AnyAttachment(attached)],
    )
    _send(daemon.http_port, mail)
    recipients = {f"option{part}@example.net" for part in ("", "-cc", "-bcc")}
    sink.wait_for_recipients(recipients)
    [one] = sink.by_recipient()["option-bcc@example.net"]
    assert set(one.recipients) <= recipients
    assert one.sender == "bounces@example.com"
    for field in ("Cc: Carl <option-cc@example.net>", "Reply-To: answers@example.com", "X-Order: 17"):
        assert f"\r\n{field}\r\n".encode() in one.content
    assert b"option-bcc" not in one.content
    assert b"a.txt" in one.content


def test_batch(daemon: Daemon, sink: Sink) -> None:
    """The one in the middle may not be sent with this key; the others are."""
    stranger = _mail("stranger@example.net", var_from=Address(email="eve@example.org"))
    request = BatchSendRequest(messages=[_mail("batch-a@example.net"), stranger, _mail("batch-b@example.net")])
    with _client(daemon.http_port) as client:
        response = EmailsApi(client).sending_send_email_batch(request)
    first, second, third = response.data.results
    assert [(one.index, one.status) for one in response.data.results] == [(0, "queued"), (1, "failed"), (2, "queued")]
    assert (second.message_id, second.error.code, second.error.retryable) == (None, "sender_not_allowed", False)
    assert first.message_id != third.message_id
    summary = response.data.summary
    assert (summary.total, summary.queued, summary.failed) == (3, 2, 1)
    for name in ("batch-a", "batch-b"):
        assert len(_arrived(sink, f"{name}@example.net")) == 1
    assert "stranger@example.net" not in sink.by_recipient()


@pytest.mark.parametrize(
    ("mail", "client", "status", "code", "retryable"),
    [
        ({}, {"key": "smx_mbx_not_a_key_of_this_one"}, 401, "authentication_required", False),
        ({"var_from": Address(email="eve@example.org")}, {}, 403, "sender_not_allowed", False),
        ({"reply_to": Address(email="nobody")}, {}, 422, "validation_error", False),
        ({"delivery_group": EmailSendRequestDeliveryGroup("grp_1")}, {}, 422, "not_supported", False),
        ({"custom_headers": {"Bcc": "eve@example.org"}}, {}, 422, "validation_error", False),
        ({}, {"base": "/sendmux/api/v2"}, 404, "not_found", False),
    ],
    ids=["key", "sender", "address", "provider", "header", "path"],
)
def test_errors(
    mail: dict[str, Any], client: dict[str, Any], status: int, code: str, retryable: bool, daemon: Daemon
) -> None:
    with pytest.raises(SendmuxApiError) as caught:
        _send(daemon.http_port, _mail("never@example.net", **mail), **client)
    error = caught.value
    assert (error.status_code, error.code, error.retryable) == (status, code, retryable)
    assert error.message
    assert error.request_id == error.headers["X-Request-Id"]


def test_a_name_with_other_content_is_a_conflict(daemon: Daemon, sink: Sink) -> None:
    first = _send(daemon.http_port, _mail("named@example.net"), named="email_123")
    again = _send(daemon.http_port, _mail("named@example.net"), named="email_123")
    assert first.data.message_id == again.data.message_id
    slept: list[float] = []
    with pytest.raises(SendmuxApiError) as caught:
        _send(daemon.http_port, _mail("other@example.net"), named="email_123", slept=slept)
    assert (caught.value.status_code, caught.value.code, caught.value.retryable) == (409, "idempotency_conflict", False)
    assert slept == [], "told that it is of no use, the SDK does not try again"
    assert len(_arrived(sink, "named@example.net")) == 1


def test_a_lost_answer_is_asked_for_again_and_sends_once(daemon: Daemon, sink: Sink) -> None:
    slept: list[float] = []
    with LossyProxy(daemon.http_port, lost=2) as proxy:
        response = _send(proxy.port, _mail("lossy@example.net"), named="email_lossy", slept=slept)
    assert (proxy.requests, len(slept)) == (3, 2)
    assert response.data.status == "queued"
    assert len(_arrived(sink, "lossy@example.net")) == 1
    found = daemon.json("queue", "show", response.data.message_id)
    assert [one["to"] for one in found["recipients"]] == ["lossy@example.net"]


def test_a_rate_limit_is_retried_when_the_gateway_says(daemon: Daemon) -> None:
    _send(daemon.http_port, _mail("limit@example.net"), key=SLOW_KEY)
    slept: list[float] = []
    with pytest.raises(SendmuxApiError) as caught:
        _send(daemon.http_port, _mail("limit-2@example.net"), key=SLOW_KEY, named="limit", slept=slept)
    error = caught.value
    assert (error.status_code, error.code, error.retryable) == (429, "rate_limit_exceeded", True)
    assert len(slept) == 2, "three attempts"
    assert all(0 < pause <= 60 for pause in slept)
    assert int(error.headers["Retry-After"]) in range(1, 61)


@pytest.mark.parametrize("base", [BASE, STRICT])
def test_its_connection_check(base: str, daemon: Daemon) -> None:
    with _client(daemon.http_port, base=base) as client:
        connection = MetaApi(client).sending_get_connection().data
    assert (connection.credential.name, connection.credential.type, connection.team.id) == ("app", "api_key", "app")
    assert connection.permissions == ["email.read", "email.send"]


@pytest.mark.parametrize("base", [BASE, STRICT])
def test_uploads_are_not_served(base: str, daemon: Daemon, tmp_path: Path) -> None:
    """A file goes with the message: `attachment_from_file`."""
    file = tmp_path / "report.pdf"
    file.write_bytes(b"%PDF-1.4")
    with _client(daemon.http_port, base=base) as client, pytest.raises(SendmuxApiError) as caught:
        upload_attachment_from_file(client, file_path=file)
    assert (caught.value.status_code, caught.value.code) in {(404, "not_found"), (405, "method_not_allowed")}


def test_a_file(daemon: Daemon, sink: Sink, tmp_path: Path) -> None:
    file = tmp_path / "report.pdf"
    file.write_bytes(b"%PDF-1.4")
    mail = EmailSendRequest.from_dict(
        {
            "from": {"email": "shop@example.com"},
            "to": {"email": "file@example.net"},
            "subject": "Report",
            "html_body": "<p>Attached.</p>",
            "attachments": [attachment_from_file(file)],
        }
    )
    _send(daemon.http_port, mail)
    [content] = _arrived(sink, "file@example.net")
    assert b"report.pdf" in content
    assert b"JVBERi0xLjQ=" in content


@pytest.mark.parametrize("base", [BASE, STRICT])
def test_by_default_it_reads_nothing_of_a_success(
    base: str, sink: Sink, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """201, as the vendor's document has it: the mail is sent, and the SDK returns None."""
    recipient = f"created-{len(base)}@example.net"
    with make_daemon(_settings(tmp_path, sink, status=201)) as daemon:
        assert _send(daemon.http_port, _mail(recipient), base=base) is None
        assert len(_arrived(sink, recipient)) == 1


@pytest.mark.parametrize(("client", "status"), [({"key": "smx_mbx_not_a_key_of_this_one"}, 401), ({}, 403)])
def test_other_errors(client: dict[str, Any], status: int, daemon: Daemon) -> None:
    mail = _mail("never@example.net", var_from=Address(email="eve@example.org"))
    with pytest.raises(SendmuxApiError) as caught:
        _send(daemon.http_port, mail, **client)
    assert caught.value.status_code == status
    assert caught.value.request_id
