"""A message as an mbox file has it (RFC 4155): a line `From `, the message with LF line ends, an empty line. Pure.

Guarantees: what looks like such a line within a message gets one `>` more (the form that is called mboxrd), so that it
can be undone. The envelope is in fields before the message's own: X-Envelope-From, an X-Envelope-To for each
recipient, X-Gateway-Id.
"""

import re
import time
from typing import Any, Final

_FROM: Final = re.compile(rb"^(?=>*From )", re.MULTILINE)


def entry(message: Any, content: bytes, at_s: float) -> bytes:
    """A message as actions show it, with its content; `at_s` is the Unix time of its From line."""
    sender = message["envelope_sender"]
    fields = [
        f"From {sender or 'MAILER-DAEMON'} {time.asctime(time.gmtime(at_s))}",
        f"X-Envelope-From: <{sender}>",
        *(f"X-Envelope-To: <{recipient['to']}>" for recipient in message["recipients"]),
        f"X-Gateway-Id: {message['id']}",
    ]
    head = "".join(f"{line}\n" for line in fields).encode()
    body = _FROM.sub(b">", content.replace(b"\r\n", b"\n"))
    return head + body + (b"\n" if body.endswith(b"\n") else b"\n\n")
