"""What an operator can do about a recipient that is not delivered yet: words by class of failure. Pure."""

from typing import Final

from gateway.events import BounceClass

_WAIT: Final = "Nothing has to be done: it is tried again by itself."
_BY_CLASS: Final = {
    BounceClass.INVALID_RECIPIENT: "The host knows no such mailbox. Ask for the right address, or redirect it.",
    BounceClass.BAD_DOMAIN: "The domain does not exist or takes no mail. Redirect the recipient, or bounce it.",
    BounceClass.INACTIVE_MAILBOX: "The mailbox is closed. Redirect the recipient, or bounce it.",
    BounceClass.INVALID_SENDER: "The host refuses the sender: see that its domain exists and has an SPF record for us.",
    BounceClass.QUOTA_ISSUES: "The mailbox is full. " + _WAIT,
    BounceClass.NO_ANSWER_FROM_HOST: (
        "No host answers. See below whether one of them can be reached from this machine (port, firewall); many "
        "providers block port 25 on the way out."
    ),
    BounceClass.BAD_CONNECTION: (
        "The connection breaks or TLS fails. Where a policy demands TLS the host's certificate must fit; see below."
    ),
    BounceClass.DNS_FAILURE: "The DNS does not answer. See that the nameservers of this machine do (dns.nameservers).",
    BounceClass.ROUTING_ERRORS: "There is no way to a host: see that the route is configured and its host is found.",
    BounceClass.TRANSIENT_FAILURE: "The host puts us off (greylisting, load). " + _WAIT,
    BounceClass.MESSAGE_EXPIRED: "Its time was over.",
    BounceClass.PROTOCOL_ERRORS: "The host answers what SMTP does not know. See that it is a mail host at all.",
    BounceClass.AUTHENTICATION_FAILED: "The host does not let us in: see username and password of the route.",
    BounceClass.POLICY_RELATED: "A rule of the host stops it; read what it says.",
    BounceClass.REPUTATION_BLOCK: (
        "The host blocks our address. Read what it says: mostly a block list to leave, or a missing PTR record. "
        "Redirect it to another route (queue redirect --new-route) until then."
    ),
    BounceClass.CONTENT_REFUSED: "The host does not like the message: its size, an attachment, its words.",
    BounceClass.TOO_MANY_RECIPIENTS: "The host takes fewer recipients at once. " + _WAIT,
    BounceClass.UNCERTAIN: "It may have arrived. Ask the recipient before it is sent again.",
    BounceClass.UNCATEGORIZED: "Read what was said.",
}


def for_class(bounce_class: str) -> str:
    """What to do about the last failure; "" where there was none."""
    return _BY_CLASS[BounceClass(bounce_class)] if bounce_class in {one.value for one in BounceClass} else ""
