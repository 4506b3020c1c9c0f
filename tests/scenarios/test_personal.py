"""What the whole daemon sends to two recipients of one tracked message: each his own, signed, and traceable to him."""

import base64
import email
import email.policy
import http.client
import re
import smtplib
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import dkim as dkimpy
import pytest

from tests.peers.client import http_send
from tests.peers.daemon import SECRET, Daemon, dkim_domain, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink, Transaction

pytestmark = pytest.mark.slow

BACK = "bounces.example.com"
TO = ["bob@example.org", "eve@example.net"]
TARGET = "https://shop.example.com/sale?a=1&b=2"
HTML = f'<html><body>Größen: <a href="{TARGET.replace("&", "&amp;")}">all</a> <a href="#x">up</a></body></html>\n'
ATTACHMENT = bytes(range(256)) * 12_000  # 3 MB


@pytest.fixture
def settings(tmp_path: Path) -> tuple[dict[str, object], bytes]:
    """A domain with a key and a return path; the record of the key."""
    domains, records = dkim_domain(tmp_path)
    domains["domains"]["example.com"]["return_path"] = BACK
    (record,) = records.values()
    return domains, record.encode()


def started(directory: Path, sink: Sink, more: dict[str, object]) -> Daemon:
    daemon = Daemon(directory / "gw", {})
    at = f"127.0.0.1:{daemon.http_port}"
    listeners = {"listeners": [{"listen": at, "tls": "none"}], "admin": at, "public_url": f"http://{at}"}
    daemon.write_config({**relay_to(sink.port), **more, "http": listeners})
    return daemon


def written() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "news@example.com", ", ".join(TO), "Sale"
    message["X-Gateway-Track"], message["X-Gateway-Unsubscribe"] = "opens, clicks", "all"
    message.set_content(f"All of it: {TARGET}\n")
    message.add_alternative(HTML, subtype="html", cte="quoted-printable")
    message.add_attachment(ATTACHMENT, maintype="application", subtype="octet-stream", filename="prices.bin")
    return message


def submit(daemon: Daemon, message: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, local_hostname="client.test", timeout=30) as client:
        client.login("client", SECRET)
        client.send_message(message, "news@example.com", TO)


def parts(one: Transaction) -> tuple[str, str, bytes]:
    """Text, HTML and attachment."""
    parsed = email.message_from_bytes(one.content, policy=email.policy.default)
    leaves = [part for part in parsed.walk() if not part.is_multipart()]
    text, html = (str(part.get_content()) for part in leaves[:2])
    return text, html, base64.b64decode(leaves[2].get_payload(decode=False))  # type: ignore[arg-type]  # text


def answer(url: str) -> tuple[int, str | None]:
    """(status, where it leads)."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.netloc, timeout=30)
    try:
        connection.request("GET", at.path)
        response = connection.getresponse()
        return response.status, response.headers["Location"]
    finally:
        connection.close()


def test_each_recipient_gets_his_own(tmp_path: Path, settings: tuple[dict[str, object], bytes]) -> None:
    domains, record = settings
    with Sink() as sink, started(tmp_path, sink, domains) as daemon:
        submit(daemon, written())
        wait_until(lambda: len(sink.accepted) == len(TO), f"two transactions\n{daemon.tail(60)}")
        seen: list[set[str]] = []
        for one in sink.accepted:
            text, html, attachment = parts(one)
            header = email.message_from_bytes(one.content.partition(b"\r\n\r\n")[0], policy=email.policy.compat32)
            assert (attachment, text.strip()) == (ATTACHMENT, f"All of it: {TARGET}")
            assert dkimpy.verify(one.content, dnsfunc=lambda *_, **__: record)
            assert one.sender == f"b+{header['X-Gateway-Token']}@{BACK}"
            (link,) = re.findall(r'href="(http://[^"]*/t/c/[^"]*)"', html)
            (pixel,) = re.findall(r'src="(http://[^"]*/t/o/[^"]*)"', html)
            assert answer(link) == (302, TARGET)
            assert answer(pixel) == (200, None)
            assert "Größen" in html
            assert html.count('href="#x"') == 1
            seen.append({one.sender, link, pixel, str(header["List-Unsubscribe"])})
        assert [one.recipients for one in sink.accepted] in ([TO[:1], TO[1:]], [TO[1:], TO[:1]])
        assert seen[0].isdisjoint(seen[1])


def test_mail_that_asks_for_nothing_shares_a_transaction(
    tmp_path: Path, settings: tuple[dict[str, object], bytes]
) -> None:
    with Sink() as sink, started(tmp_path, sink, settings[0]) as daemon:
        sent = http_send(daemon.http_port, {"from": "news@example.com", "to": TO, "subject": "x", "html": HTML})
        assert sent.status == 201, sent.body
        wait_until(lambda: len(sink.accepted) == 1, f"a transaction\n{daemon.tail(60)}")
        (one,) = sink.accepted
        assert sorted(one.recipients) == TO
        assert re.fullmatch(rf"b\+[a-z2-7]{{53}}@{re.escape(BACK)}", one.sender)
        assert b"/t/" not in one.content
        assert dkimpy.verify(one.content, dnsfunc=lambda *_, **__: settings[1])
