"""The part of a notification for people: plain words on what happened, what was said, what to do.

Guarantees: foreign text stands in lines of its own, indented, without control characters. Lines may be long: the
encoding of the part sees to that.
"""

from typing import Final, NamedTuple, assert_never

from gateway.message import encoded_word, header
from gateway.message.dsn.notice import EXPIRED, MAX_REPLY, Action, Fate, Notice

_INDENT: Final = "    "
_MAX_SUBJECT: Final = 200


class _Advice(NamedTuple):
    happened: str
    todo: str


_ADMIN: Final = "Tell the administrator of this mail system; the recipient can do nothing about it."
_LATER: Final = "Send it again later, or reach the recipient another way."
_TABLE: Final = {
    "InvalidRecipient": _Advice(
        "The mail host does not know this address.",
        "Check the address for typing errors, or ask the recipient for the right one.",
    ),
    "BadDomain": _Advice(
        "The domain of this address does not exist or takes no mail.",
        "Check what stands after the @ for typing errors.",
    ),
    "InactiveMailbox": _Advice(
        "The mailbox is closed or not in use.", "Ask the recipient for an address that is in use."
    ),
    "InvalidSender": _Advice(
        "The mail host does not take mail from your address.",
        "Check your own address; if it is right, tell the administrator of this mail system.",
    ),
    "QuotaIssues": _Advice("The mailbox is full.", _LATER),
    "NoAnswerFromHost": _Advice("No mail host of the recipient could be reached.", _LATER),
    "BadConnection": _Advice("The connection to the mail host broke or could not be used.", _LATER),
    "DNSFailure": _Advice("The mail host of the recipient could not be looked up.", _LATER),
    "RoutingErrors": _Advice("There is no way to the mail host of the recipient.", _ADMIN),
    "TransientFailure": _Advice("The mail host did not take the message for the time being.", _LATER),
    EXPIRED: _Advice("The message could not be delivered in the time it had; no more attempts are made.", _LATER),
    "ProtocolErrors": _Advice("The mail host and this mail system did not understand each other.", _ADMIN),
    "AuthenticationFailed": _Advice("The mail host does not let this mail system in.", _ADMIN),
    "PolicyRelated": _Advice(
        "The mail host refuses the message by a rule of its own.",
        "Read what it said; the recipient or their administrator knows the rule.",
    ),
    "ReputationBlock": _Advice("The mail host refuses mail from this mail system.", _ADMIN),
    "ContentRefused": _Advice(
        "The mail host refuses this message because of its content or size.",
        "Read what it said, change the message and send it again.",
    ),
    "TooManyRecipients": _Advice(
        "The mail host takes no more recipients of this message.", "Send it again to fewer recipients at once."
    ),
    "Uncertain": _Advice(
        "The connection broke before the mail host confirmed the message. It may have arrived; it was not sent again "
        "because it must not arrive twice.",
        "Ask the recipient whether it arrived before you send it again.",
    ),
}
_UNKNOWN: Final = _Advice(
    "The message could not be delivered.", "Read what was said, and tell the administrator if it makes no sense."
)


def subject(notice: Notice) -> str:
    """Of the notification; nothing of the message's own stands in it, because it may be anybody's text."""
    match notice.action:
        case Action.FAILED:
            return "Mail could not be delivered"
        case Action.DELAYED:
            return "Mail is delayed"
        case Action.DELIVERED | Action.RELAYED:
            return "Mail was delivered"
        case _:
            assert_never(notice.action)


def text(notice: Notice) -> str:
    """All of the part, lines ended by LF."""
    lines = [f"This is the mail system at {notice.hostname}.", "", *_opening(notice), "", *_which(notice)]
    for fate in notice.fates:
        lines += ["", f"<{encoded_word.clean(fate.address)}>", *_about(fate)]
    lines += ["", "The parts below hold the same for programs, and which message is meant."]
    return "\n".join(lines) + "\n"


def _opening(notice: Notice) -> list[str]:
    whom = "the recipient" if len(notice.fates) == 1 else f"{len(notice.fates)} recipients"
    match notice.action:
        case Action.FAILED:
            return [f"Your message could not be delivered to {whom} named below.", "It is not tried again."]
        case Action.DELAYED:
            return [
                f"Your message has not been delivered yet to {whom} named below.",
                f"It is tried again until {header.format_date(notice.retry_until)}.",
                "This is a warning only: you need not send it again.",
            ]
        case Action.DELIVERED | Action.RELAYED:
            return [f"You asked to be told: your message was delivered to {whom} named below."]
        case _:
            assert_never(notice.action)


def _which(notice: Notice) -> list[str]:
    """The message, as its sender knows it and as this gateway does."""
    shown = [("Subject", notice.subject[:_MAX_SUBJECT]), ("Message-ID", f"<{notice.message_id.strip('<>')}>")]
    lines = [f"{_INDENT}{name}: {encoded_word.clean(value)}" for name, value in shown if value not in {"", "<>"}]
    lines.append(f"{_INDENT}Accepted: {header.format_date(notice.arrived_at)}")
    lines.append(f"{_INDENT}Known here as: {notice.id}")
    return lines


def _about(fate: Fate) -> list[str]:
    match fate.action:
        case Action.RELAYED:
            host = f"the mail host {encoded_word.clean(fate.host)}" if fate.host else "another mail host"
            lines = [
                f"{_INDENT}It was handed over to {host}, which does not report deliveries:",
                f"{_INDENT}whether it reaches the mailbox is not known here.",
            ]
            return lines + _said(fate)
        case Action.DELIVERED:
            return [f"{_INDENT}It was delivered.", *_said(fate)]
        case Action.DELAYED:
            return [_INDENT + _TABLE.get(fate.reason, _TABLE["TransientFailure"]).happened, *_said(fate)]
        case Action.FAILED:
            advice = _TABLE.get(fate.reason, _UNKNOWN)
            return [_INDENT + advice.happened, *_said(fate), f"{_INDENT}What to do: {advice.todo}"]
        case _:
            assert_never(fate.action)


def _said(fate: Fate) -> list[str]:
    """The reply, word for word."""
    if not fate.reply:
        return []
    said = encoded_word.clean(fate.reply[:MAX_REPLY]).strip()
    if not fate.spoken:
        return [f"{_INDENT}What this mail system noted:", _INDENT * 2 + said]
    lasting = "last said" if fate.reason == EXPIRED else "said"
    return [f"{_INDENT}The mail host {encoded_word.clean(fate.host)} {lasting}:", _INDENT * 2 + said]
