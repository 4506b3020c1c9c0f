"""Clients of the daemon's two doors, as a program would use them."""

import asyncio
import base64
import http.client
import json
import re
import smtplib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from tests.peers.daemon import SECRET

# The id in an acknowledgement, by either door.
ACK_HTTP = re.compile(rb'"message_id":\s*"(eml_[a-z0-9]{24})"')
ACK_SMTP = re.compile(rb"queued as <?(eml_[a-z0-9]{24})")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `body` is decoded JSON."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def id(self) -> str:
        return str(self.body["data"]["message_id"])


def message_json(recipient: str, *, sender: str = "shop@example.com", text: str = "It works.\n") -> dict[str, Any]:
    return {"from": sender, "to": [recipient], "subject": f"to {recipient}", "text": text}


def message_bytes(recipient: str, *, sender: str = "shop@example.com", size: int = 0) -> bytes:
    """A small message, filled up with lines to `size` octets."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, recipient, f"to {recipient}"
    message.set_content("It works.\n")
    head = message.as_bytes().replace(b"\n", b"\r\n")
    line = b"The quick brown fox jumps over the lazy dog, and then it does so again.\r\n"
    return head + line * max(0, (size - len(head)) // len(line))


def http_send(
    port: int, body: dict[str, Any], *, secret: str = SECRET, headers: dict[str, str] | None = None
) -> Answer:
    """POST one message on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(
            "POST",
            "/api/v1/emails/send",
            body=json.dumps(body),
            headers={
                "Authorization": f"Bearer {secret}",
                "Content-Type": "application/json",
                **(headers or {}),
            },
        )
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), json.loads(response.read()))
    finally:
        connection.close()


def smtp_send(port: int, sender: str, recipients: Sequence[str], content: bytes, *, secret: str = SECRET) -> str:
    """Submit one message with AUTH and return its id. smtplib's own exceptions where it is refused."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=30) as client:
        client.ehlo()
        client.login("client", secret)
        return smtp_transaction(client, sender, recipients, content)


def smtp_transaction(client: smtplib.SMTP, sender: str, recipients: Sequence[str], content: bytes) -> str:
    """One transaction on an open connection, the content exactly as given but for dot-stuffing; returns
    the id.

    smtplib's own `data` would make CRLF of bare CR and LF.
    """
    code, text = client.mail(sender)
    if code != 250:
        raise smtplib.SMTPSenderRefused(code, text, sender)
    for recipient in recipients:
        code, text = client.rcpt(recipient)
        if code != 250:
            raise smtplib.SMTPRecipientsRefused({recipient: (code, text)})
    code, text = client.docmd("DATA")
    if code != 354:
        raise smtplib.SMTPDataError(code, text)
    stuffed = (b"." if content.startswith(b".") else b"") + content.replace(b"\n.", b"\n..")
    client.send(stuffed + (b"" if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n") + b".\r\n")
    code, text = client.getreply()
    found = ACK_SMTP.search(text)
    if code != 250 or found is None:
        raise smtplib.SMTPDataError(code, text)
    return found[1].decode()


@dataclass(slots=True)
class HttpClient:
    """A kept HTTP connection without ceremony: costs a load generator little. One request at a time."""

    port: int
    secret: str = SECRET
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None

    async def post(self, body: bytes, extra: str = "") -> tuple[int, bytes]:
        """POST a message; returns status and body. OSError or EOFError where the daemon went away."""
        return await self.request("POST", "/api/v1/emails/send", body, extra)

    async def request(self, method: str, path: str, body: bytes = b"", extra: str = "") -> tuple[int, bytes]:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self._reader is not None
        self._writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {self.secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode()
            + body
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        found = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
        assert found is not None, f"an answer without Content-Length: {head}"
        answer = await self._reader.readexactly(int(found[1]))
        if "connection: close" in head.lower():
            self.close()
        return int(head.split(" ", 2)[1]), answer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


@dataclass(slots=True)
class SmtpClient:
    """A kept SMTP connection for load, authenticated unless `secret` is empty. One transaction at a time.

    `dot_s` is how long the last final dot waited for its reply.
    """

    port: int
    secret: str = SECRET
    dot_s: float = 0.0
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None

    async def send(self, sender: str, recipient: str, content: bytes) -> tuple[int, bytes]:
        """One transaction; returns code and text of the reply to the final dot, or of the first refusal.

        `content` is sent as it is: it must be canonical, end in CRLF and have no line that begins with a dot.
        OSError or EOFError where the daemon went away.
        """
        if self._writer is None:
            await self._connect()
        for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
            code, text = await self._command(command.encode() + b"\r\n")
            if code not in {250, 354}:
                return code, text
        began = time.perf_counter()
        code, text = await self._command(content + b".\r\n")
        self.dot_s = time.perf_counter() - began
        return code, text

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        code, text = await self._command(b"")
        if code == 220:
            code, text = await self._command(b"EHLO client.test\r\n")
        if code == 250 and self.secret:
            login = base64.b64encode(f"\0client\0{self.secret}".encode())
            code, text = await self._command(b"AUTH PLAIN " + login + b"\r\n")
        if code not in {235, 250}:
            self.close()
            raise ConnectionRefusedError(f"{code} {text!r}")

    async def _command(self, data: bytes) -> tuple[int, bytes]:
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(data)
        text = b""
        while True:
            line = await self._reader.readuntil(b"\n")
            text += line[4:]
            if line[3:4] != b"-":
                return int(line[:3]), text

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
