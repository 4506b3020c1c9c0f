"""i-as SMTP Mailer: POST /api/smtp, the relay in the header, the answer nodemailer's.

Guarantees: 200 only after the next hop took the message for one recipient at least; what is queued and not yet taken
after WAIT_S is 202; once a message is stored no failure is told, so that nobody sends it twice.
"""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from gateway.api import fields, state
from gateway.api.dialect import Dialect, Operation
from gateway.api.dialects import failure, fieldtable, letter, namedrelay, nodemailer, relayheaders
from gateway.api.dialects.fieldtable import Field
from gateway.api.dialects.nodemailer import Info
from gateway.api.dialects.relayheaders import Credentials, Relay
from gateway.api.door import Call
from gateway.api.envelope import Answer, HttpError
from gateway.api.fields import Problems, kind
from gateway.api.service import Body, Document, Service
from gateway.delivery.passthrough import Ending, NamedRelay
from gateway.delivery.waits import Outcome
from gateway.errors import Refused, StoreError
from gateway.message import address_list
from gateway.message.address import AddressError
from gateway.message.model import Mailbox, Submission
from gateway.policy.auth import Principal

PATH: Final = "/api/smtp"
WAIT_S: Final = 30.0  # for the next hop; what takes longer is told as queued
MAX_LIST_CHARACTERS: Final = 32_000  # of addresses in one string
MAX_ADDRESSES: Final = 10_000  # in a list of such strings, those that stand twice among them
_UNAUTHENTICATED: Final = "Authentication failed"
_CHALLENGE: Final = (("WWW-Authenticate", 'Basic realm="mail", charset="UTF-8"'),)  # RFC 7617, 2.1

log = logging.getLogger("gateway.api")


def _addresses(value: Any, path: str, problems: Problems) -> tuple[Mailbox, ...]:
    """Addresses with commas between them, or a list of such strings."""
    if not isinstance(value, list):
        return _listed(value, path, problems)
    found: list[Mailbox] = []
    for index, item in enumerate(value):
        if problems.full:
            break
        found += _listed(item, f"{path}[{index}]", problems)
        if len(found) > MAX_ADDRESSES:  # counted before memory is: four octets of a list make two hundred of it
            problems.add(path, f"holds more than {MAX_ADDRESSES} addresses", "validation_error")
            return ()
    return tuple(found)


def _listed(value: Any, path: str, problems: Problems) -> tuple[Mailbox, ...]:
    if isinstance(value, (list, dict)):
        problems.add(path, f"must be a string of addresses, got {kind(value)}")
        return ()
    text = fields.line(value, path, problems, limit=MAX_LIST_CHARACTERS)
    if text is None:
        return ()
    try:
        found = address_list.parse_mailbox_list(text)
    except AddressError as error:
        problems.add(path, str(error), "validation_error")
        return ()
    if not found:
        problems.add(path, "holds no address", "validation_error")
    return found


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    sender: Mailbox
    to: tuple[Mailbox, ...]
    subject: str
    text: str
    cc: tuple[Mailbox, ...] = ()


FIELDS: Final = (
    Field("from", fieldtable.one_mailbox, "sender", required=True),
    Field("to", _addresses, "to", required=True),
    Field("cc", _addresses, "cc"),
    Field("subject", fields.line, "subject", required=True),
    Field("text", fields.body, "text", required=True),
    Field("bcc", fieldtable.unsupported),
    Field("replyTo", fieldtable.unsupported),
    Field("html", fieldtable.unsupported),
    Field("attachments", fieldtable.unsupported),
)


async def send(service: Service, call: Call) -> Answer:
    """The operation. Raises Refused, HttpError, StoreError."""
    asked = relayheaders.read(call)
    if isinstance(asked, Relay) and not namedrelay.is_ours(service, asked.server):
        return await _pass_on(service, call, asked)
    return await _queue(service, call, asked)


async def _queue(service: Service, call: Call, asked: Relay | Credentials) -> Answer:
    principal = service.principal(call, asked.password.value, "send", login=asked.email)
    async with service.body(call) as body:
        submission = await _decode(service, body)
        receipt = await service.door.submit(principal, submission, idempotency=None, peer=call.peer)
    outcome = await _outcome(service, principal, receipt.uuid)
    if outcome is None:
        return _told(202, "Email queued", nodemailer.of_receipt(receipt, submission))
    return _word(outcome)


async def _outcome(service: Service, principal: Principal, uuid: bytes) -> Outcome | None:
    try:
        return await service.door.outcome(principal, uuid, WAIT_S)
    except StoreError:
        # The message is stored and will be sent: a 503 would make the client send another.
        log.exception("what became of a stored message cannot be read")
        return None


def _word(outcome: Outcome) -> Answer:
    states = [recipient.state for recipient in outcome.view.recipients]
    if not all(one.final for one in states):
        return _told(202, "Email queued", nodemailer.of_outcome(outcome))
    if nodemailer.TAKEN.isdisjoint(states):
        return _failure(502, state.bounce_reason(outcome.view.recipients) or "The message was refused.")
    return _told(200, "Email sent successfully", nodemailer.of_outcome(outcome))


async def _pass_on(service: Service, call: Call, asked: Relay) -> Answer:
    namedrelay.require_listed(service, asked.server, asked.port, call.peer)
    relay = NamedRelay(asked.server, asked.port, asked.secure, asked.email, asked.password)
    async with service.body(call) as body:
        submission = await _decode(service, body)
        passed = await service.door.pass_through(relay, submission, peer=call.peer)
    match passed.ending:
        case Ending.ACCEPTED:
            return _told(200, "Email sent successfully", nodemailer.of_passed(passed))
        case Ending.AUTHENTICATION_FAILED:
            raise namedrelay.unauthenticated()
        case Ending.REFUSED | Ending.UNREACHABLE | Ending.UNCERTAIN as ending:
            return _failure(*namedrelay.FAILURES[ending])


async def _decode(service: Service, body: Body) -> Submission:
    parse = partial(_parse, most=service.config.limits.recipients_per_message)
    return await body.decode(parse, in_thread=body.size > fieldtable.THREAD_BYTES)


def _parse(document: Document, *, most: int) -> Submission:
    request = fieldtable.decode(document, FIELDS, Request, closed=False)
    count = len({box.address for box in (*request.to, *request.cc)})
    if count > most:
        problems = Problems()
        problems.add("to", f"{count} recipients in to and cc; at most {most} a message", "validation_error")
        problems.refuse()
    return letter.write(request.sender, request.to, request.subject, cc=request.cc, text=request.text)


def _told(status: int, message: str, info: Info) -> Answer:
    return Answer(status, msgspec.json.encode({"message": message, "info": info}))


def _failure(status: int, text: str) -> Answer:
    return Answer(status, msgspec.json.encode(_failed("", text)))


def _failed(_code: str, text: str) -> dict[str, Any]:
    return {"message": text}


def refusal(refused: Refused, _request_id: str) -> Answer:
    """`{"message": text}`."""
    return failure.refusal(refused, _failed, unauthenticated=_UNAUTHENTICATED, challenge=_CHALLENGE)


def http_error(error: HttpError, _request_id: str) -> Answer:
    return failure.http_error(error, _failed)


DIALECT: Final = Dialect(
    name="iassmtp",
    operations=(Operation("POST", PATH, send),),
    owns=(f"{PATH}/",),
    refusal=refusal,
    http_error=http_error,
    limit_headers=failure.limit_headers,
)
