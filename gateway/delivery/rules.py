"""What hosts mean by their enhanced codes and by their texts, as data. Pure.

Guarantees: a reply about us (reputation, blocklist, reverse DNS, rate) is never the recipient's; a text is asked only
where the code says nothing or something generic; at most `MAX_READ` characters are read, in linear time. The stage of
the dialogue is no matter here: verdict.py weighs it.
"""

from dataclasses import dataclass
from typing import Final

from gateway.events import BounceClass, Scope

MAX_READ: Final = 1000  # characters of a text

Meaning = tuple[BounceClass, Scope]

_INVALID_RECIPIENT: Final = (BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT)
_BAD_DOMAIN: Final = (BounceClass.BAD_DOMAIN, Scope.RECIPIENT)
_INACTIVE: Final = (BounceClass.INACTIVE_MAILBOX, Scope.RECIPIENT)
_QUOTA: Final = (BounceClass.QUOTA_ISSUES, Scope.RECIPIENT)
_INVALID_SENDER: Final = (BounceClass.INVALID_SENDER, Scope.CONTENT)
_CONTENT: Final = (BounceClass.CONTENT_REFUSED, Scope.CONTENT)
_CONTENT_POLICY: Final = (BounceClass.POLICY_RELATED, Scope.CONTENT)
_UNAUTHENTICATED: Final = (BounceClass.AUTHENTICATION_FAILED, Scope.CONTENT)  # SPF, DKIM, DMARC of the From domain
_UNPROVEN_HOST: Final = (BounceClass.AUTHENTICATION_FAILED, Scope.INFRASTRUCTURE)  # reverse DNS, or our log-in
_POLICY: Final = (BounceClass.POLICY_RELATED, Scope.INFRASTRUCTURE)
_REPUTATION: Final = (BounceClass.REPUTATION_BLOCK, Scope.INFRASTRUCTURE)
_ROUTING: Final = (BounceClass.ROUTING_ERRORS, Scope.INFRASTRUCTURE)
_TRANSIENT: Final = (BounceClass.TRANSIENT_FAILURE, Scope.INFRASTRUCTURE)
_CROWD: Final = (BounceClass.TOO_MANY_RECIPIENTS, Scope.INFRASTRUCTURE)
_PROTOCOL: Final = (BounceClass.PROTOCOL_ERRORS, Scope.INFRASTRUCTURE)

# By "subject.detail" of the enhanced code, or "subject" for all others of it; "7.606-652" is a range of details.
# RFC 3463 and the IANA registry where nothing else is said.
CODES: Final[dict[str, Meaning]] = {
    "1.0": _INVALID_RECIPIENT,
    "1.1": _INVALID_RECIPIENT,  # the word of Postfix, Exim and Gmail for no such user
    "1.2": _BAD_DOMAIN,
    "1.3": _INVALID_RECIPIENT,
    "1.4": _INVALID_RECIPIENT,
    "1.6": _INACTIVE,
    "1.7": _INVALID_SENDER,
    "1.8": _INVALID_SENDER,  # Exchange Online too: a sender blocked for spam
    "1.10": _BAD_DOMAIN,  # RFC 7505: null MX; Exchange Online for no such user
    "2.0": _INACTIVE,
    "2.1": _INACTIVE,
    "2.2": _QUOTA,
    "2.3": _CONTENT,  # message too long for this mailbox
    "2.121-122": _QUOTA,  # Exchange Online: the recipient takes no more mail in this hour
    "3": _TRANSIENT,
    "3.4": _CONTENT,  # message too big for the system
    "4": _ROUTING,
    "4.1": (BounceClass.NO_ANSWER_FROM_HOST, Scope.INFRASTRUCTURE),
    "4.2": (BounceClass.BAD_CONNECTION, Scope.INFRASTRUCTURE),
    "4.3": (BounceClass.DNS_FAILURE, Scope.INFRASTRUCTURE),
    "4.5": _TRANSIENT,  # congestion; Gmail as a relay: the sending limit of the day
    "4.7": (BounceClass.MESSAGE_EXPIRED, Scope.INFRASTRUCTURE),
    "5": _PROTOCOL,
    "5.3": _CROWD,
    "6": _CONTENT,
    "7": _POLICY,
    "7.2": _CONTENT_POLICY,  # the sender may not post to this list
    "7.8": _UNPROVEN_HOST,
    "7.9": _UNAUTHENTICATED,  # Yahoo: DMARC; by RFC 5248 a weak AUTH, which is told at AUTH
    "7.13": _INACTIVE,  # RFC 5248: the account is disabled
    "7.17": _INVALID_RECIPIENT,  # RFC 7293: the mailbox has another owner now
    "7.18": _BAD_DOMAIN,  # RFC 7293: the domain has
    "7.20-24": _UNAUTHENTICATED,  # RFC 7372: DKIM, SPF
    "7.25": _UNPROVEN_HOST,  # RFC 7372: reverse DNS
    "7.26": _UNAUTHENTICATED,  # RFC 7372; Gmail: neither SPF nor DKIM passed, or DMARC
    "7.27": _INVALID_SENDER,  # RFC 7505: the sender's domain takes no mail; Gmail: SPF
    "7.28": _REPUTATION,  # Gmail: an unusual rate of mail from this address or domain
    "7.29": _UNAUTHENTICATED,  # RFC 8617: ARC
    "7.124": _CONTENT_POLICY,  # Exchange Online: the group takes mail of known senders only
    "7.133-136": _CONTENT_POLICY,  # the same for senders outside the organisation
    "7.500-503": _REPUTATION,  # Exchange Online: server busy, suspicious traffic from this address
    "7.508": _REPUTATION,  # Exchange Online: an address that sent too much by IPv6
    "7.509": _UNAUTHENTICATED,  # Exchange Online: DMARC
    "7.511": _REPUTATION,  # Exchange Online: banned sender
    "7.515": _UNAUTHENTICATED,  # Outlook.com: the rules for those who send much
    "7.606-652": _REPUTATION,  # Exchange Online and Outlook.com: banned (606-649), rate by reputation (650-652)
    "7.705-708": _REPUTATION,  # Exchange Online: the tenant or its addresses sent spam
    "7.750": _REPUTATION,
}


@dataclass(frozen=True, slots=True)
class TextRule:
    """One of `phrases` (lower case) in a text means `meaning`, where the enhanced code is one of `codes`."""

    phrases: tuple[str, ...]
    meaning: Meaning
    codes: frozenset[str]


# Codes that say no more than "no": the text is worth more.
_GENERIC: Final = frozenset({"", "0.0", "1.0", "2.0", "3.0", "4.0", "5.0", "6.0", "7.0", "7.1"})


def _rule(meaning: Meaning, *phrases: str, also: tuple[str, ...] = ()) -> TextRule:
    return TextRule(phrases, meaning, _GENERIC.union(also))


# The first match wins: what is about us stands before what is about the message, and that before the recipient, so
# that a blocklist's text that also speaks of a mailbox is never counted against the mailbox.
TEXTS: Final = (
    # About this machine
    _rule(_REPUTATION, "unusual rate", "unsolicitedratelimit"),  # Gmail, 421 4.7.0 and 550 5.7.1
    _rule(_REPUTATION, "low reputation", "poor reputation", "ip reputation", "/reputation"),  # Gmail, Cisco, Barracuda
    _rule(_REPUTATION, "(s3140)", "(s3150)", "on our block list"),  # Outlook.com, 550 5.7.1 to MAIL
    _rule(_REPUTATION, "[ts0", "[tss0", "[bl2"),  # Yahoo: 421 4.7.0 for complaints, 553 5.7.1 for Spamhaus
    _rule(_REPUTATION, "spamhaus", "spamcop", "sorbs.net", "abuseat.org", "uceprotect"),  # lists, by their addresses
    _rule(_REPUTATION, "csi.cloudmark.com", "ipcheck.proofpoint.com", "senderscore"),  # Orange, Apple, Comcast
    _rule(_REPUTATION, "blocked using", "dnsbl", " rbl"),  # Postfix reject_rbl_client, 554 5.7.1, whatever the list
    _rule(_REPUTATION, "blacklist", "black list", "blocklist", "block list"),  # Exim, GMX and many
    _rule(_REPUTATION, "banned sending ip", "too many spam"),  # Exchange Online before it had codes; Free
    _rule(_REPUTATION, "ofr_", "ofr006", "lpn007", "aup#i"),  # Orange, La Poste, Charter: by address
    _rule(_UNPROVEN_HOST, "reverse dns", "rdns", "ptr record", "no ptr", "ptr:"),  # Gmail, Comcast, t-online
    _rule(_UNPROVEN_HOST, "reverse hostname", "cannot find your hostname"),  # Postfix reject_unknown_client_hostname
    _rule(_POLICY, "your account"),  # SendGrid, Amazon SES: they speak of us, not of the recipient's account
    _rule(_UNPROVEN_HOST, "authentication required", "authentication is required"),  # relays that say it with a 550
    _rule(_TRANSIENT, "rate limit", "ratelimit", "sending rate", "throttl", "frequency limited"),  # Exim, SES; QQ
    _rule(_TRANSIENT, "too many connections", "too many concurrent", "too many messages"),  # Exim, Yahoo, Postfix
    _rule(_TRANSIENT, "message quota", "sending limit", "sending quota", "credits exceeded"),  # SES, Gmail, SendGrid
    _rule(_CROWD, "too many recipients"),  # Sendmail and Exim without a code
    _rule(_POLICY, "helo command rejected", "invalid helo", "helo/ehlo"),  # Postfix 5.7.1; Exim
    _rule(_ROUTING, "relay access denied", "relay denied", "relaying denied"),  # Postfix, Sendmail: their MX errs
    _rule(_ROUTING, "relay not permitted", "not permitted to relay", "unable to relay"),  # Exim, Exchange
    # About the message
    _rule(_UNAUTHENTICATED, "dmarc", "dkim"),  # Gmail and Microsoft with 5.7.1, Exim without a code
    _rule(_UNAUTHENTICATED, "spf fail", "spf check", "spf record", "spf validation", "spf:"),  # policyd-spf, Exim
    _rule(_UNAUTHENTICATED, "unauthenticated email", "sender is unauthenticated"),  # Gmail, 5.7.1
    _rule(_INVALID_SENDER, "sender address rejected", "sender rejected", "invalid sender"),  # Postfix 5.7.1
    _rule(_INVALID_SENDER, "sender verify failed", "sender domain", "domain of sender"),  # Exim callouts, Sendmail
    _rule(_CONTENT, "unsolicited", "spam", "dt:spm"),  # Gmail 5.7.1, SpamAssassin milters; NetEase
    _rule(_CONTENT, "virus", "malware", "phishing", "[ph01]"),  # ClamAV milters; Yahoo
    _rule(_CONTENT, "potential security issue", "content denied", "content rejected"),  # Gmail 5.7.0; QQ
    _rule(_CONTENT, "message too large", "message too big", "message size exceeds"),  # hosts without 5.3.4
    # About the mailbox
    _rule(_QUOTA, "receiving mail too quickly", "receiving mail at a rate", also=("2.1",)),  # Gmail, 450 4.2.1
    _rule(_QUOTA, "over quota", "overquota", "quota exceed", "exceeded quota", "exceeds quota"),  # Dovecot, Courier
    _rule(_QUOTA, "mailbox full", "mailbox is full", "inbox full", "inbox is full", "storage full"),  # 554 of qmail
    _rule(_QUOTA, "exceeded storage allocation", "exceeded its quota"),  # RFC 5321's own 552; Zimbra
    _rule(_INACTIVE, "mailbox disabled", "mailbox is disabled", "account disabled", "account is disabled"),  # Yahoo
    _rule(_INACTIVE, "inactive", "has been disabled", "user suspended", "no longer active"),  # Rediff, Coremail
    _rule(_INVALID_RECIPIENT, "recipient address rejected: access denied", also=("4.1",)),  # Exchange Online
    _rule(_INVALID_RECIPIENT, "user unknown", "unknown user", "unknown recipient", "recipient unknown"),  # Sendmail
    _rule(_INVALID_RECIPIENT, "no such user", "no such recipient", "no such mailbox"),  # Exim, qmail
    _rule(_INVALID_RECIPIENT, "user not found", "recipient not found", "mailbox not found"),  # Coremail, Domino
    _rule(_INVALID_RECIPIENT, "no mailbox here", "doesn't have a", "does not exist", "doesn't exist"),  # qmail, Yahoo
    _rule(_INVALID_RECIPIENT, "invalid recipient", "invalid mailbox", "not a valid recipient", "#5.1.0"),  # Cisco
    TextRule(("mailbox unavailable",), _INVALID_RECIPIENT, frozenset({"5.0"})),  # Outlook.com's 550 5.5.0
    # What says "no" and not why: last, and never the recipient
    _rule(_POLICY, "client host rejected", "access denied", "administrative prohibition"),  # Postfix, Mimecast
    _rule(_POLICY, "local policy", "policy reasons", "policy violation", "not authorized"),  # Apple, Yahoo, Sendmail
)


def _expanded(codes: dict[str, Meaning]) -> dict[str, Meaning]:
    """Each detail of a range by itself."""
    found: dict[str, Meaning] = {}
    for code, meaning in codes.items():
        subject, dot, details = code.partition(".")
        first, _, last = details.partition("-")
        if not last:
            found[code] = meaning
            continue
        for detail in range(int(first), int(last) + 1):
            found[f"{subject}{dot}{detail}"] = meaning
    return found


_BY_CODE: Final = _expanded(CODES)
_TEXTS_FOR: Final = {
    detail: tuple(rule for rule in TEXTS if detail in rule.codes)
    for detail in frozenset[str]().union(*[rule.codes for rule in TEXTS])
}


def is_generic(enhanced: str) -> bool:
    """Whether a code says no more than "no"."""
    return enhanced.partition(".")[2] in _GENERIC


def meaning_of(enhanced: str, text: str) -> Meaning | None:
    """What an enhanced code ("" or three numbers) with its text says; None: nothing that is known."""
    detail = enhanced.partition(".")[2]
    return _by_text(detail, text) or _BY_CODE.get(detail) or _BY_CODE.get(detail.partition(".")[0])


def _by_text(detail: str, text: str) -> Meaning | None:
    candidates = _TEXTS_FOR.get(detail)
    if candidates is None:
        return None
    # An address may hold any word: "<blocklist@example.com>: user unknown".
    read = " ".join([part for part in text[:MAX_READ].lower().split() if "@" not in part])
    for rule in candidates:
        if any(phrase in read for phrase in rule.phrases):
            return rule.meaning
    return None
