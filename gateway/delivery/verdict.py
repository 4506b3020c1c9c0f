"""What a reply, or the lack of one, means for a recipient. Pure: now and jitter are arguments.

Guarantees: what is not understood is temporary; a permanent word about our session (greeting, EHLO, STARTTLS, AUTH)
is never the recipient's fault; nothing outlives `expires_at`. It does not choose the next host: attempt.py does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.events import BounceClass, EventType, Scope, State

_JITTER: Final = 0.2  # of a retry step, both ways: no storm after an outage
_SESSION_STAGES: Final = frozenset({"connect", "greeting", "ehlo", "starttls", "tls", "auth", "route"})


class Word(msgspec.Struct, frozen=True, gc=False):
    """What was said, or not said (`code` 0), about a recipient, and at which stage of the dialogue.

    `enhanced` is an RFC 3463 code or "". `uncertain`: the connection died after the final dot.
    """

    stage: str
    code: int
    enhanced: str
    text: str
    uncertain: bool = False
    permanent: bool = False  # our own certain knowledge where no code was said: null MX, no such domain


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What becomes of the recipient. `next_at` is set for DEFERRED; class and scope are None when delivered."""

    state: State
    event: EventType
    next_at: int = 0
    bounce_class: BounceClass | None = None
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    """`enhanced` is matched as a prefix of the code without its class digit ("1.1" for 5.1.1 and 4.1.1)."""

    enhanced: str
    bounce_class: BounceClass
    scope: Scope


# RFC 3463 and the IANA registry of enhanced codes; the longest match wins, so order by specificity.
_RULES: Final = (
    _Rule("1.10", BounceClass.BAD_DOMAIN, Scope.RECIPIENT),  # RFC 7505: null MX
    _Rule("1.0", BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT),
    _Rule(
        "1.1", BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT
    ),  # the word of Postfix, Exim and Gmail for no such user
    _Rule("1.2", BounceClass.BAD_DOMAIN, Scope.RECIPIENT),
    _Rule("1.3", BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT),
    _Rule("1.6", BounceClass.INACTIVE_MAILBOX, Scope.RECIPIENT),
    _Rule("1.7", BounceClass.INVALID_SENDER, Scope.CONTENT),
    _Rule("1.8", BounceClass.INVALID_SENDER, Scope.CONTENT),
    _Rule("2.0", BounceClass.INACTIVE_MAILBOX, Scope.RECIPIENT),
    _Rule("2.1", BounceClass.INACTIVE_MAILBOX, Scope.RECIPIENT),
    _Rule("2.2", BounceClass.QUOTA_ISSUES, Scope.RECIPIENT),
    _Rule("2.3", BounceClass.CONTENT_REFUSED, Scope.CONTENT),  # message too long for this mailbox
    _Rule("3.", BounceClass.TRANSIENT_FAILURE, Scope.INFRASTRUCTURE),
    _Rule("3.4", BounceClass.CONTENT_REFUSED, Scope.CONTENT),  # message too big for the system
    _Rule("4.1", BounceClass.NO_ANSWER_FROM_HOST, Scope.INFRASTRUCTURE),
    _Rule("4.2", BounceClass.BAD_CONNECTION, Scope.INFRASTRUCTURE),
    _Rule("4.3", BounceClass.DNS_FAILURE, Scope.INFRASTRUCTURE),
    _Rule("4.4", BounceClass.ROUTING_ERRORS, Scope.INFRASTRUCTURE),
    _Rule("4.6", BounceClass.ROUTING_ERRORS, Scope.INFRASTRUCTURE),
    _Rule("4.7", BounceClass.MESSAGE_EXPIRED, Scope.INFRASTRUCTURE),
    _Rule("5.3", BounceClass.TOO_MANY_RECIPIENTS, Scope.INFRASTRUCTURE),
    _Rule("5.", BounceClass.PROTOCOL_ERRORS, Scope.INFRASTRUCTURE),
    _Rule("6.", BounceClass.CONTENT_REFUSED, Scope.CONTENT),
    _Rule("7.1", BounceClass.POLICY_RELATED, Scope.INFRASTRUCTURE),
    _Rule("7.8", BounceClass.AUTHENTICATION_FAILED, Scope.INFRASTRUCTURE),
    _Rule("7.2", BounceClass.AUTHENTICATION_FAILED, Scope.CONTENT),  # 7.20 to 7.29: DKIM, SPF, reverse DNS (RFC 7372)
    _Rule("7.", BounceClass.POLICY_RELATED, Scope.INFRASTRUCTURE),
)

_BY_STAGE: Final = {
    "connect": BounceClass.NO_ANSWER_FROM_HOST,
    "greeting": BounceClass.BAD_CONNECTION,
    "ehlo": BounceClass.PROTOCOL_ERRORS,
    "starttls": BounceClass.BAD_CONNECTION,
    "tls": BounceClass.BAD_CONNECTION,
    "auth": BounceClass.AUTHENTICATION_FAILED,
    "dns": BounceClass.DNS_FAILURE,
    "route": BounceClass.ROUTING_ERRORS,
    "mail": BounceClass.INVALID_SENDER,
    "rcpt": BounceClass.INVALID_RECIPIENT,
    "data": BounceClass.CONTENT_REFUSED,
    "body": BounceClass.BAD_CONNECTION,
    "dot": BounceClass.CONTENT_REFUSED,
}


def judge(word: Word, *, tries: int, expires_at: int, now: int, retry_s: Sequence[float], jitter: float) -> Decision:
    """The fate of a recipient after `word`; `tries` counts this attempt. Times in Unix milliseconds.

    `jitter` is a random number of [0, 1), the same for all recipients of an attempt, so that they stay together.
    """
    decision = judge_once(word)
    if decision.state is not State.FAILED:
        return decision
    if now >= expires_at:
        # Expired is ours to say: the remote never refused for good.
        return Decision(State.FAILED, EventType.EXPIRED, bounce_class=BounceClass.MESSAGE_EXPIRED, scope=decision.scope)
    next_at = min(now + retry_delay_ms(tries, retry_s, jitter), expires_at)
    return Decision(State.DEFERRED, EventType.DEFERRED, next_at, decision.bounce_class, decision.scope)


def judge_once(word: Word) -> Decision:
    """The fate where no other attempt follows: what is not refused for good has failed all the same."""
    if 200 <= word.code < 300:
        return Decision(State.DELIVERED, EventType.DELIVERED)
    bounce_class, scope = classify(word)
    if _permanent(word):
        return Decision(State.BOUNCED, EventType.BOUNCED, bounce_class=bounce_class, scope=scope)
    return Decision(State.FAILED, EventType.FAILED, bounce_class=bounce_class, scope=scope)


def retry_delay_ms(tries: int, retry_s: Sequence[float], jitter: float) -> int:
    """The pause after the try of that number: the step of the configuration (the last repeats), ±20 %."""
    step_s = retry_s[min(max(tries, 1), len(retry_s)) - 1]
    return int(step_s * 1000 * (1 - _JITTER + 2 * _JITTER * jitter))


def classify(word: Word) -> tuple[BounceClass, Scope]:
    """The class by enhanced code where one was said, else by the stage of the dialogue."""
    if word.stage in _SESSION_STAGES:
        return _BY_STAGE[word.stage], Scope.INFRASTRUCTURE
    detail = word.enhanced.partition(".")[2]
    best = max((rule for rule in _RULES if _matches(rule, detail)), key=lambda r: len(r.enhanced), default=None)
    if best is not None:
        return best.bounce_class, best.scope
    if word.code < 500 and word.code != 0:
        return BounceClass.TRANSIENT_FAILURE, Scope.INFRASTRUCTURE
    scope = Scope.RECIPIENT if word.stage == "rcpt" else Scope.CONTENT if word.code else Scope.INFRASTRUCTURE
    return _BY_STAGE.get(word.stage, BounceClass.UNCATEGORIZED), scope


def _matches(rule: _Rule, detail: str) -> bool:
    if rule.enhanced.endswith("."):
        return detail.startswith(rule.enhanced)
    if rule.enhanced == "7.2":  # 7.20 to 7.29, and 7.2 itself
        return detail.startswith("7.2")
    return detail == rule.enhanced


def _permanent(word: Word) -> bool:
    if word.permanent:
        return True
    if word.stage in _SESSION_STAGES or word.uncertain:
        return False
    if word.code == 552 and word.stage == "rcpt":
        return False  # RFC 5321, 4.5.3.1.10: 552 to a RCPT means 452
    return 500 <= word.code < 600 and not word.enhanced.startswith("4.")


def another_host(word: Word) -> bool:
    """Whether the next host of the destination may be tried: refused for now, or never heard (RFC 5321, 5.1)."""
    return not 200 <= word.code < 300 and not word.uncertain and not _permanent(word)
