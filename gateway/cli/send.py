"""`mail-gateway send`: one message from the shell, through the same door as the API."""

import argparse
import base64
import mimetypes
import sys
import time
from pathlib import Path
from typing import Any

from gateway import yamltree
from gateway.cli import connect, output
from gateway.errors import GatewayError
from gateway.events import State

_POLL_S = 0.2


class AttachmentError(GatewayError):
    """A file that was named cannot be read."""


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    send = verbs.add_parser("send", parents=[common], help="send a message as a key")
    send.add_argument("--key", required=True, metavar="NAME", help="the key that decides the way")
    send.add_argument("--from", dest="sender", metavar="A", help="the sender (default: the key's default_from)")
    for name in ("to", "cc", "bcc"):
        send.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="B",
            required=name == "to",
            help="may be repeated",
        )
    send.add_argument("--subject", default="", metavar="S")
    send.add_argument("--text", metavar="F", help="file with the text, - for standard input")
    send.add_argument("--html", metavar="F", help="file with the html part")
    send.add_argument("--attach", action="append", default=[], metavar="F", help="a file to attach; may be repeated")
    send.add_argument("--wait", metavar="10s", help="wait so long for the outcome (needs the running daemon)")
    output.add_json(send)
    send.set_defaults(run=_send)


def _send(arguments: argparse.Namespace) -> int:
    body: dict[str, Any] = {
        "from": arguments.sender,
        "to": arguments.to,
        "cc": arguments.cc,
        "bcc": arguments.bcc,
        "subject": arguments.subject,
        "text_body": _read_text(arguments.text),
        "html_body": _read_text(arguments.html),
        "attachments": [_attachment(Path(name)) for name in arguments.attach],
    }
    receipt = connect.act(arguments, "send", {"key": arguments.key, "body": body})
    if arguments.wait:
        return _wait(arguments, receipt)
    return output.emit(arguments, receipt, lambda r: print(f"{r['status']} as {r['message_id']}"))


def _wait(arguments: argparse.Namespace, receipt: Any) -> int:
    """Poll until every recipient is final; exit code 0 when all were delivered (or captured)."""
    deadline = time.monotonic() + yamltree.duration_s(arguments.wait)
    while True:
        message = connect.act(arguments, "queue.show", {"id": receipt["message_id"]})
        states = {State(recipient["state"]) for recipient in message["recipients"]}
        if all(state.final for state in states) or time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)

    def people(shown: Any) -> None:
        print(f"id: {shown['id']}")
        for recipient in shown["recipients"]:
            print(f"{recipient['to']}: {recipient['state']} {recipient['last_reply']}".rstrip())

    output.emit(arguments, message, people)
    return 0 if states <= {State.DELIVERED, State.CAPTURED} else 1


def _read_text(name: str | None) -> str | None:
    if name is None:
        return None
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AttachmentError(f"{name} cannot be read: {error}") from error


def _attachment(path: Path) -> dict[str, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AttachmentError(f"{path} cannot be read: {error.strerror}") from error
    content_type, encoding = mimetypes.guess_type(path.name)
    return {
        "filename": path.name,
        "content": base64.b64encode(content).decode(),
        "content_type": content_type if content_type and not encoding else "application/octet-stream",
    }
