"""The vocabulary of what happens to mail: states, events and bounce classes, shared by store, log, API and webhooks."""

from enum import StrEnum


class State(StrEnum):
    """State of a recipient (product.md, Words)."""

    SCHEDULED = "scheduled"
    HELD = "held"
    QUEUED = "queued"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    CAPTURED = "captured"

    @property
    def final(self) -> bool:
        return self not in _OPEN


_OPEN = frozenset({State.SCHEDULED, State.HELD, State.QUEUED, State.DEFERRED})


class EventType(StrEnum):
    """A fact in the event log."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    FAILED = "failed"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    HELD = "held"
    RELEASED = "released"
    CANCELLED = "cancelled"
    CAPTURED = "captured"
    REDIRECTED = "redirected"  # an operator gave it another address or another route
    REPORTED = "reported"  # the submitter is told by a delivery status notification
    OPENED = "opened"  # somebody, or a machine, fetched its pixel
    CLICKED = "clicked"  # the same of a link
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"  # the recipient called it spam (RFC 5965)
    # About no message.
    BRAKED = "braked"  # a key's new mail is held until an operator lets it go
    BRAKE_RELEASED = "brake_released"
    WEBHOOK_DISABLED = "webhook_disabled"

    @property
    def of_message(self) -> bool:
        return self not in _OF_ACCOUNT

    @property
    def intermediate(self) -> bool:
        """Not the final word on a recipient, nor heard after it."""
        return self in _INTERMEDIATE


_OF_ACCOUNT = frozenset({EventType.BRAKED, EventType.BRAKE_RELEASED, EventType.WEBHOOK_DISABLED})
_INTERMEDIATE = frozenset(
    {
        EventType.ACCEPTED,
        EventType.DEFERRED,
        EventType.HELD,
        EventType.RELEASED,
        EventType.REDIRECTED,
        EventType.REPORTED,
    }
)


class BounceClass(StrEnum):
    """Why a recipient was not delivered, in the field's words (delivery.md, Verdict)."""

    INVALID_RECIPIENT = "InvalidRecipient"
    BAD_DOMAIN = "BadDomain"
    INACTIVE_MAILBOX = "InactiveMailbox"
    INVALID_SENDER = "InvalidSender"
    QUOTA_ISSUES = "QuotaIssues"
    NO_ANSWER_FROM_HOST = "NoAnswerFromHost"
    BAD_CONNECTION = "BadConnection"
    DNS_FAILURE = "DNSFailure"
    ROUTING_ERRORS = "RoutingErrors"
    TRANSIENT_FAILURE = "TransientFailure"
    MESSAGE_EXPIRED = "MessageExpired"
    PROTOCOL_ERRORS = "ProtocolErrors"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    POLICY_RELATED = "PolicyRelated"
    REPUTATION_BLOCK = "ReputationBlock"
    CONTENT_REFUSED = "ContentRefused"
    TOO_MANY_RECIPIENTS = "TooManyRecipients"
    UNCERTAIN = "Uncertain"  # it may have been delivered, and must not be twice
    UNCATEGORIZED = "Uncategorized"


class Scope(StrEnum):
    """Whose fault it was: only recipient-class bounces may ever suppress."""

    RECIPIENT = "recipient"
    INFRASTRUCTURE = "infrastructure"
    CONTENT = "content"
