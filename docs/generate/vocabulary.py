"""events.md: states, events, bounce classes and whose fault it was."""

from typing import Final

from docs.generate import markdown
from gateway.events import BounceClass, EventType, Scope, State

_STATES: Final = {
    State.SCHEDULED: "`send_at` is ahead",
    State.HELD: "held by an operator, the mode of the key or a brake until it is released; a restore holds mail of "
    "keys with `duplicates: at_most_once`",
    State.QUEUED: "not tried yet",
    State.DEFERRED: "tried, and to be tried again",
    State.DELIVERED: "the next hop took it (250 after the final dot)",
    State.BOUNCED: "refused for good because of the recipient",
    State.FAILED: "refused for good for another reason, expired, or given up",
    State.SUPPRESSED: "not sent to: it bounced, complained, unsubscribed, or an operator said so",
    State.CANCELLED: "cancelled before it was sent",
    State.CAPTURED: "kept here by a route of type capture, or by the mode of the key",
}
_EVENTS: Final = {
    EventType.ACCEPTED: "the message is on disk",
    EventType.DEFERRED: "an attempt failed; there will be another",
    EventType.DELIVERED: "the next hop took it",
    EventType.BOUNCED: "refused for good because of the recipient",
    EventType.FAILED: "refused for good for another reason",
    EventType.EXPIRED: "`ttl` or `delivery.expire_after` went by",
    EventType.SUPPRESSED: "not sent to; `reply` or `note` says why",
    EventType.HELD: "held",
    EventType.RELEASED: "no longer held",
    EventType.CANCELLED: "cancelled",
    EventType.CAPTURED: "kept here",
    EventType.REDIRECTED: "an operator gave it another address or another route",
    EventType.REPORTED: "the submitter is told by a notification",
    EventType.OPENED: "its pixel was fetched; `machine` says by what, where that was no person",
    EventType.CLICKED: "the same of a link",
    EventType.UNSUBSCRIBED: "the recipient wants no more of it",
    EventType.COMPLAINED: "the recipient called it spam",
    EventType.BRAKED: "of a key: its new mail is held until an operator lets it go",
    EventType.BRAKE_RELEASED: "of a key: an operator let its mail go",
    EventType.WEBHOOK_DISABLED: "of an account: an endpoint failed for too long, and is told nothing more",
}
_CLASSES: Final = {
    BounceClass.INVALID_RECIPIENT: "there is no such mailbox",
    BounceClass.BAD_DOMAIN: "the domain does not exist or takes no mail",
    BounceClass.INACTIVE_MAILBOX: "the mailbox is disabled",
    BounceClass.INVALID_SENDER: "the sender's address was refused",
    BounceClass.QUOTA_ISSUES: "the mailbox is full or takes no more for now",
    BounceClass.NO_ANSWER_FROM_HOST: "no connection could be made",
    BounceClass.BAD_CONNECTION: "the connection or TLS failed, or the host greeted with an error",
    BounceClass.DNS_FAILURE: "DNS gave no answer",
    BounceClass.ROUTING_ERRORS: "no way to the host: no usable MX, or the route cannot be used",
    BounceClass.TRANSIENT_FAILURE: "the host said to try later",
    BounceClass.MESSAGE_EXPIRED: "not delivered before it expired",
    BounceClass.PROTOCOL_ERRORS: "the two sides do not understand each other",
    BounceClass.AUTHENTICATION_FAILED: "SPF, DKIM, DMARC, reverse DNS or our log-in did not satisfy the host",
    BounceClass.POLICY_RELATED: "refused by a rule of the receiver",
    BounceClass.REPUTATION_BLOCK: "a blocklist or a rate limit: we send too much, or are not trusted",
    BounceClass.CONTENT_REFUSED: "refused for what it says or how large it is",
    BounceClass.TOO_MANY_RECIPIENTS: "too many recipients at once",
    BounceClass.UNCERTAIN: "it may have been delivered, and the key says at most once",
    BounceClass.UNCATEGORIZED: "none of the others",
}
_SCOPES: Final = {
    Scope.RECIPIENT: "the address; never said of mail that failed for another reason",
    Scope.INFRASTRUCTURE: "hosts, networks, DNS, reputation, on either side",
    Scope.CONTENT: "the sender or the message",
}


def page() -> str:
    """The page."""
    return markdown.page(
        "States, events, bounce classes",
        "The words of the API, the log, `mail-gateway queue` and the store.",
        "## States of a recipient",
        markdown.table(
            ("state", "final", "means"),
            [(markdown.code(state), "yes" if state.final else "no", _STATES[state]) for state in State],
        ),
        "## Events",
        markdown.table(("event", "says"), [(markdown.code(event), _EVENTS[event]) for event in EventType]),
        "## Bounce classes",
        "Why a recipient was not delivered, or not yet.",
        markdown.table(("class", "means"), [(markdown.code(one), _CLASSES[one]) for one in BounceClass]),
        "## Scopes",
        "Whose fault it was.",
        markdown.table(("scope", "means"), [(markdown.code(scope), _SCOPES[scope]) for scope in Scope]),
    )
