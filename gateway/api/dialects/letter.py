"""The mail of an API with few fields, as a submission."""

from gateway.api.dialects import bodytype
from gateway.message.model import Mailbox, Submission


def of_body(sender: Mailbox, to: Mailbox, subject: str, body: str) -> Submission:
    """For one recipient; `body` is HTML or plain text, as it looks."""
    html = body if bodytype.is_html(body) else None
    return write(sender, (to,), subject, html=html, text=None if html is not None else body)


def write(
    sender: Mailbox,
    to: tuple[Mailbox, ...],
    subject: str,
    *,
    cc: tuple[Mailbox, ...] = (),
    html: str | None = None,
    text: str | None = None,
) -> Submission:
    return Submission(
        sender=sender,
        to=to,
        cc=cc,
        bcc=(),
        reply_to=(),
        subject=subject,
        html=html,
        text=text,
        attachments=(),
        headers=(),
        tags=(),
        metadata="{}",
        return_path=None,
    )
