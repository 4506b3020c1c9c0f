"""What a reply, or the lack of one, means for a recipient. Pure: now and jitter are arguments.

Guarantees: what is not understood is temporary; a permanent word about our session (greeting, EHLO, STARTTLS, AUTH)
is never the recipient's fault, nor is what was said to MAIL or with a 421; a host that says when to come back is
believed within bounds; nothing outlives `expires_at`. What codes and texts mean is data (rules.py). It does not choose
the next host: attempt.py does.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.delivery import hints, rules
from gateway.delivery.rules import Meaning
from gateway.events import BounceClass, EventType, Scope, State

_JITTER: Final = 0.2  # of a retry step, both ways: no storm after an outage
_LATE: Final = 0.1  # of a time that the host set: only later, or it would refuse again
_SOONEST_S: Final = 30.0  # a host that wants us back sooner gets us then
_LATEST_S: Final = 4 * 3600.0  # nobody puts mail off for longer by a word
_PROMPT_TRIES: Final = 5  # so often a wait shorter than the schedule's is believed; a liar would have us knock for days
_GREYLIST_S: Final = 5 * 60.0  # delays in the field are 1 to 15 minutes: asked at 1, 6, 11, 16 and 21
_GREYLIST_LATER_S: Final = 30 * 60.0  # after those tries; RFC 5321, 4.5.4.1: at least 30 minutes in general
_SESSION_STAGES: Final = frozenset({"connect", "greeting", "ehlo", "starttls", "tls", "auth", "route"})
_ABOUT_US: Final = frozenset({BounceClass.REPUTATION_BLOCK, BounceClass.AUTHENTICATION_FAILED})
_LOG_IN_CODES: Final = frozenset({530, 534, 535, 538})  # RFC 4954, 6; RFC 3207, 4: log in, or encrypt, first
_CLOSING: Final = 421  # RFC 5321, 3.8: the service is going
_ABORTED: Final = 552  # storage exceeded


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
    """What becomes of the recipient. `next_at` is set for DEFERRED; class and scope are None when delivered; `event` is
    None where nothing is to be told."""

    state: State
    event: EventType | None
    next_at: int = 0
    bounce_class: BounceClass | None = None
    scope: Scope | None = None


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
    next_at = min(now + _pause_ms(word, tries, retry_s, jitter), expires_at)
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
    return int(_step_s(tries, retry_s) * 1000 * (1 - _JITTER + 2 * _JITTER * jitter))


def _step_s(tries: int, retry_s: Sequence[float]) -> float:
    return retry_s[min(max(tries, 1), len(retry_s)) - 1]


def _pause_ms(word: Word, tries: int, retry_s: Sequence[float], jitter: float) -> int:
    """The pause before the next try, 1 ms at least: the host's own time, a greylist's, or the schedule's."""
    scheduled_ms = max(retry_delay_ms(tries, retry_s, jitter), 1)
    if not _temporary_reply(word):
        return scheduled_ms
    asked_s = hints.wait_s(word.text)
    if asked_s is not None:
        pause_ms = int(min(max(asked_s, _SOONEST_S) * (1 + _LATE * jitter), _LATEST_S) * 1000)
        return pause_ms if tries <= _PROMPT_TRIES else max(pause_ms, scheduled_ms)
    if hints.greylisted(word.text):
        longest_s = _GREYLIST_S if tries <= _PROMPT_TRIES else _GREYLIST_LATER_S
        return max(int(min(_step_s(tries, retry_s), longest_s) * (1 + _LATE * jitter) * 1000), 1)
    return scheduled_ms


def classify(word: Word) -> Meaning:
    """The class by what was said, by code and text, else by the stage of the dialogue."""
    if word.stage in _SESSION_STAGES:
        return _session_class(word), Scope.INFRASTRUCTURE  # whatever the code: nobody has heard of the recipient yet
    if word.code in _LOG_IN_CODES:
        return BounceClass.AUTHENTICATION_FAILED, Scope.INFRASTRUCTURE
    meaning = _meaning(word)
    if meaning is None:
        return _by_stage(word)
    if meaning[1] is Scope.RECIPIENT and word.stage == "mail":
        return BounceClass.INVALID_SENDER, Scope.CONTENT  # a host that answers MAIL speaks of the sender
    if meaning[1] is Scope.RECIPIENT and word.code == _CLOSING:
        return BounceClass.TRANSIENT_FAILURE, Scope.INFRASTRUCTURE  # said to all that were not answered yet
    return meaning


def _session_class(word: Word) -> BounceClass:
    """By the stage; a greeting or an answer to EHLO may also say what the host has against us."""
    if word.stage in {"greeting", "ehlo"} and (meaning := _meaning(word)) and meaning[0] in _ABOUT_US:
        return meaning[0]
    return _BY_STAGE[word.stage]


def _meaning(word: Word) -> Meaning | None:
    if _temporary_reply(word) and rules.is_generic(word.enhanced) and hints.greylisted(word.text):
        return BounceClass.TRANSIENT_FAILURE, Scope.INFRASTRUCTURE  # whichever list made it look twice
    return rules.meaning_of(word.enhanced, word.text if word.code else "")  # our own words need no reading


def _by_stage(word: Word) -> Meaning:
    if not word.code:
        return _BY_STAGE.get(word.stage, BounceClass.UNCATEGORIZED), Scope.INFRASTRUCTURE
    if not 500 <= word.code < 600 or (word.code == _ABORTED and word.stage == "rcpt"):
        return BounceClass.TRANSIENT_FAILURE, Scope.INFRASTRUCTURE
    scope = Scope.RECIPIENT if word.stage == "rcpt" else Scope.CONTENT
    return _BY_STAGE.get(word.stage, BounceClass.UNCATEGORIZED), scope


def _temporary_reply(word: Word) -> bool:
    return 400 <= word.code < 500


def _permanent(word: Word) -> bool:
    if word.permanent:
        return True
    if word.stage in _SESSION_STAGES or word.uncertain:
        return False
    if word.code in _LOG_IN_CODES:
        return False  # said late, it is still about our session: the operator can mend it and lose no mail
    if word.code == _ABORTED and word.stage == "rcpt":
        return False  # RFC 5321, 4.5.3.1.10: 552 to a RCPT means 452
    return 500 <= word.code < 600 and not word.enhanced.startswith("4.")


def another_host(word: Word) -> bool:
    """Whether the next host of the destination may be tried: refused for now, or never heard (RFC 5321, 5.1)."""
    return not 200 <= word.code < 300 and not word.uncertain and not _permanent(word)
