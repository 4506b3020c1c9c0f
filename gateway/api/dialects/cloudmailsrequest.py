"""What a request of CloudMails asks for: its fields, its batches, as submissions.

Guarantees: pure; every problem of a message is reported at once; an entry of a batch that is wrong is refused alone. A
field that the vendor does not know is passed over.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gateway.api import attachment, fields, variables
from gateway.api.dialects import fieldtable
from gateway.api.dialects.fieldtable import Field
from gateway.api.fields import Problems, kind
from gateway.api.service import Document
from gateway.config import Config, Limits
from gateway.errors import Reason, Refused
from gateway.message.model import Attachment, Mailbox, Submission

BATCH_MESSAGES: Final = 1000  # of the vendor's document; `limits.batch` can only lower it
ATTACHMENT: Final = attachment.TABLE.names.keys() | attachment.TABLE.refused.keys() | {"name"}
_EMPTY: Final = Submission(
    sender=None,
    to=(),
    cc=(),
    bcc=(),
    reply_to=(),
    subject="",
    html=None,
    text=None,
    attachments=(),
    headers=(),
    tags=(),
    metadata="{}",
    return_path=None,
)

Entry = Submission | Refused


def table(limits: Limits, *, from_required: bool) -> tuple[Field, ...]:
    """The fields of a message. `from_required`: the key has no `default_from`."""
    several = partial(fields.mailboxes, limit=limits.recipients_per_message)
    return (
        Field("to", _one, "to", required=True),
        Field("from", fieldtable.one_mailbox, "sender", required=from_required),
        Field("subject", fields.line, "subject", required=True),
        Field("html", fields.body, "html", required=True),
        Field("text", fields.body, "text"),
        # Without one, answers go to the author anyway (RFC 5322, 3.6.2): that is the vendor's default too.
        Field("reply_to", _one, "reply_to"),
        Field("cc", several, "cc"),
        Field("bcc", several, "bcc"),
        Field("attachments", partial(_attachments, limit=limits.attachments), "attachments"),
        Field("custom_args", fields.metadata, "metadata"),
        Field("variables", variables.read, "variables"),
    )


def shared_table(limits: Limits, *, from_required: bool) -> tuple[Field, ...]:
    """The fields of /v1/email/batch beside `recipients`: those of a message, but for who gets it."""
    others = ("to", "cc", "bcc", "variables")
    kept = [one for one in table(limits, from_required=from_required) if one.name not in others]
    return (*kept, *[Field(name, fieldtable.unsupported) for name in others])


def message(document: Document, known: tuple[Field, ...]) -> Submission:
    """One message. Raises Refused."""
    return fieldtable.decode(document, known, partial(replace, _EMPTY), closed=False)


def messages(document: Document, *, config: Config, from_required: bool) -> list[Entry]:
    """The entries of /v1/send/batch, each a message in full. Raises Refused where it is no batch."""
    read = partial(message, known=table(config.limits, from_required=from_required))
    return [_entry(value, read) for value in _listed(document, "messages", config.limits)]


def recipients(document: Document, *, config: Config, from_required: bool) -> list[Entry]:
    """The entries of /v1/email/batch: one mail, filled in for each. Raises Refused where it is no batch.

    What they come to together is bounded as if each had been sent in full.
    """
    shared = message(document, shared_table(config.limits, from_required=from_required))
    listed = _listed(document, "recipients", config.limits)
    each = len(shared.html or "") + len(shared.text or "") + sum([len(one.content) for one in shared.attachments])
    if each * len(listed) > config.max_message:
        text = f"recipients: the messages come to more than {config.max_message} bytes together: send several batches."
        raise Refused(Reason.PAYLOAD_TOO_LARGE, text, param="recipients")
    return [_entry(value, partial(_addressed, shared=shared)) for value in listed]


def _listed(document: Document, name: str, limits: Limits) -> list[Any]:
    value = document.get(name)
    most = min(BATCH_MESSAGES, limits.batch)
    problems = Problems()
    if fields.absent(value):
        problems.add(name, "is required", "missing_parameter")
    elif not isinstance(value, list):
        problems.add(name, f"must be a list of objects, got {kind(value)}")
    elif len(value) > most:
        problems.add(name, f"has {len(value)} entries; at most {most} are taken", "validation_error")
    problems.refuse()
    assert isinstance(value, list)
    return value


def _entry(value: Any, read: Callable[[Document], Submission]) -> Entry:
    if not isinstance(value, dict):
        return Refused(Reason.INVALID_PARAMETER, f"An entry must be an object, got {kind(value)}.")
    try:
        return read(value)
    except Refused as refused:
        return refused


def _addressed(value: Document, *, shared: Submission) -> Submission:
    """`{to, name, …}`: who gets the mail; everything but `to` fills it in."""
    problems = Problems()
    to = None
    if fields.absent(value.get("to")):
        problems.add("to", "is required", "missing_parameter")
    else:
        to = fieldtable.one_mailbox(value["to"], "to", problems)
    name = value.get("name")
    if to is not None and not fields.absent(name):
        to = Mailbox(fields.line(name, "name", problems) or "", to.address)
    given = {name: item for name, item in value.items() if name != "to"}
    values = variables.read(given, "recipient", problems) if given else None
    problems.refuse()
    assert to is not None
    return replace(shared, to=(to,), variables=values)


def _one(value: Any, path: str, problems: Problems) -> tuple[Mailbox, ...]:
    found = fieldtable.one_mailbox(value, path, problems)
    return (found,) if found is not None else ()


def _attachments(value: Any, path: str, problems: Problems, *, limit: int) -> tuple[Attachment, ...]:
    """A list of `{filename or name, content, content_type}`."""
    if isinstance(value, list):
        value = [_attachment(item, f"{path}[{index}]", problems) for index, item in enumerate(value)]
    return attachment.read_all(value, path, problems, limit=limit)


def _attachment(value: Any, path: str, problems: Problems) -> Any:
    """Under the names that `attachment.read` takes, without those that nobody knows."""
    if not isinstance(value, dict):
        return value
    known = {name: item for name, item in value.items() if name in ATTACHMENT}
    name = known.pop("name", None)
    if fields.absent(name):
        return known
    if not fields.absent(known.get("filename")):
        problems.add(f"{path}.name", "means the same as filename: give one of them")
    return {**known, "filename": name}
