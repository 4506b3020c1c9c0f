"""`mail-gateway send`: one message from the shell, through the same door as the API."""

import argparse
import base64
import mimetypes
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway import control
from gateway.cli import arguments as values
from gateway.cli import connect, datadir, output
from gateway.errors import GatewayError, Reason
from gateway.events import State

_POLL_S: Final = 0.2
_STANDARD_INPUT: Final = "-"
_MOST_BYTES: Final = control.LINE_BYTES * 2 // 3  # of texts and files: in base64 they fit one request


class InputError(GatewayError):
    """A file that was named cannot be read or sent."""


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
    send.add_argument("--html", metavar="F", help="file with the html part, - for standard input")
    send.add_argument("--attach", action="append", default=[], metavar="F", help="a file to attach; may be repeated")
    send.add_argument(
        "--wait", type=values.duration, metavar="10s", help="wait so long for the outcome (needs the running daemon)"
    )
    output.add_json(send)
    send.set_defaults(run=_send)


def _send(arguments: argparse.Namespace) -> int:
    if not arguments.text and not arguments.html and not arguments.attach:
        raise InputError("there is nothing to send: give --text FILE (- is standard input), --html or --attach")
    text, html = _read_text(arguments.text), _read_text(arguments.html)
    attachments = [(Path(name), _read(name)) for name in arguments.attach]
    _check_size(arguments, [text, html, *(content for _, content in attachments)])
    desk = connect.Desk(arguments)
    body = {
        "from": arguments.sender,
        "to": arguments.to,
        "cc": arguments.cc,
        "bcc": arguments.bcc,
        "subject": arguments.subject,
        "text_body": _decoded(arguments.text, text),
        "html_body": _decoded(arguments.html, html),
        "attachments": [_attachment(path, content) for path, content in attachments],
    }
    try:
        receipt = desk.act("send", {"key": arguments.key, "body": body})
    except GatewayError as error:
        if connect.is_for(error, Reason.AUTHENTICATION_REQUIRED):
            raise InputError(f"There is no key {arguments.key} that may be used: mail-gateway key list") from error
        raise
    if arguments.wait:
        return _wait(arguments, desk, receipt["message_id"])
    return output.emit(arguments, receipt, lambda r: print(f"{r['status']} as {r['message_id']}"))


def _wait(arguments: argparse.Namespace, desk: connect.Desk, id_: str) -> int:
    """Poll the daemon until every recipient is final; exit code 0 when all were delivered (or captured)."""
    deadline = time.monotonic() + arguments.wait
    # Only the daemon is asked: opening the store ourselves again and again would keep one from starting.
    message = desk.ask_daemon("queue.show", {"id": id_})
    while not (message is not None and _final(message)) and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_POLL_S, left))
        message = desk.ask_daemon("queue.show", {"id": id_})
    hint = (
        ""
        if message is not None
        else "No daemon is running (mail-gateway serve); what is queued goes out when it does."
    )
    message = message or desk.act("queue.show", {"id": id_})
    output.emit(arguments, message, _print_outcome)
    if not _final(message):
        output.complain(f"no outcome yet after {arguments.wait:g} s", hint=hint)
    return 0 if _states(message) <= {State.DELIVERED, State.CAPTURED} else 1


def _print_outcome(message: Any) -> None:
    output.fields([("id", message["id"])])
    for recipient in message["recipients"]:
        print(output.clean(f"{recipient['to']}: {recipient['state']} {recipient['last_reply']}".rstrip()))


def _states(message: Any) -> set[State]:
    return {State(recipient["state"]) for recipient in message["recipients"]}


def _final(message: Any) -> bool:
    return all(state.final for state in _states(message))


def _check_size(arguments: argparse.Namespace, parts: Sequence[bytes | None]) -> None:
    """What can only be refused is not handed in: reading it would keep the daemon from its mail."""
    size = sum(len(part) for part in parts if part is not None)
    most = min(_MOST_BYTES, datadir.read_settings(arguments).max_message)
    if size > most:
        raise InputError(f"the texts and the files have {size} bytes, at most {most} are taken (max_message)")


def _read_text(name: str | None) -> bytes | None:
    return None if name is None else _read(name)


def _decoded(name: str | None, text: bytes | None) -> str | None:
    try:
        return None if text is None else text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text (byte {error.start})") from error


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == _STANDARD_INPUT else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error


def _attachment(path: Path, content: bytes) -> dict[str, str]:
    content_type, encoding = mimetypes.guess_type(path.name)
    return {
        "filename": path.name,
        "content": base64.b64encode(content).decode(),
        "content_type": content_type if content_type and not encoding else "application/octet-stream",
    }
