"""What replies mean: the table of delivery.md, trap by trap."""

import pytest

from gateway.delivery.verdict import Decision, Word, classify, judge, judge_once, retry_delay_ms
from gateway.events import BounceClass, EventType, Scope, State

NOW = 1_800_000_000_000
RETRY_S = (60, 300, 900, 1800, 3600, 7200, 14400)


def decide(word: Word, *, tries: int = 1, expires_at: int = NOW + 5 * 86_400_000) -> Decision:
    return judge(word, tries=tries, expires_at=expires_at, now=NOW, retry_s=RETRY_S, jitter=0.5)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        (Word("dot", 250, "2.0.0", "ok"), State.DELIVERED),
        (Word("rcpt", 550, "5.1.1", "no such user"), State.BOUNCED),
        (Word("rcpt", 450, "4.2.0", "greylisted"), State.DEFERRED),
        (Word("rcpt", 552, "", "too many recipients"), State.DEFERRED),  # trap 5: RFC 5321 4.5.3.1.10
        (Word("dot", 552, "5.3.4", "too big"), State.BOUNCED),
        (Word("mail", 550, "5.7.1", "not you"), State.BOUNCED),
        (Word("connect", 0, "", "connection refused"), State.DEFERRED),
        (Word("greeting", 554, "5.7.1", "go away"), State.DEFERRED),
        (Word("ehlo", 550, "5.7.1", "no"), State.DEFERRED),
        (Word("auth", 535, "5.7.8", "bad password"), State.DEFERRED),  # ours, never the recipient's fault
        (Word("starttls", 554, "", "no"), State.DEFERRED),
        (Word("dns", 0, "4.4.3", "SERVFAIL"), State.DEFERRED),  # trap 14
        (Word("dns", 0, "5.1.2", "no such domain", permanent=True), State.BOUNCED),
        (Word("dns", 0, "5.1.10", "null MX", permanent=True), State.BOUNCED),
        (Word("dot", 0, "", "connection lost", uncertain=True), State.DEFERRED),
        (Word("rcpt", 550, "4.2.1", "mixed signals"), State.DEFERRED),
        (Word("anything", 0, "", ""), State.DEFERRED),  # what is not understood is temporary
    ],
)
def test_state(word: Word, state: State) -> None:
    assert decide(word).state is state


def test_expiry_turns_a_temporary_word_into_failure_but_not_a_delivery() -> None:
    expired = decide(Word("connect", 0, "", "timed out"), expires_at=NOW)
    assert (expired.state, expired.event) == (State.FAILED, EventType.EXPIRED)
    assert expired.bounce_class is BounceClass.MESSAGE_EXPIRED
    assert decide(Word("dot", 250, "", "ok"), expires_at=NOW).state is State.DELIVERED


@pytest.mark.parametrize(
    ("word", "state", "event"),
    [
        (Word("dot", 250, "", "ok"), State.DELIVERED, EventType.DELIVERED),
        (Word("rcpt", 550, "5.1.1", "no such user"), State.BOUNCED, EventType.BOUNCED),
        (Word("rcpt", 450, "4.2.0", "greylisted"), State.FAILED, EventType.FAILED),
        (Word("auth", 535, "5.7.8", "bad password"), State.FAILED, EventType.FAILED),
        (Word("dot", 0, "", "connection lost", uncertain=True), State.FAILED, EventType.FAILED),
    ],
)
def test_what_is_tried_once_has_failed_where_it_was_not_refused(word: Word, state: State, event: EventType) -> None:
    decision = judge_once(word)
    assert (decision.state, decision.event, decision.next_at) == (state, event, 0)
    if state is not State.DELIVERED:
        assert (decision.bounce_class, decision.scope) == classify(word)


@pytest.mark.parametrize(("tries", "step_s"), [(1, 60), (2, 300), (7, 14400), (8, 14400), (40, 14400)])
def test_retry_follows_the_schedule_with_jitter(tries: int, step_s: int) -> None:
    delays = {retry_delay_ms(tries, RETRY_S, part / 200) for part in range(200)}
    assert min(delays) >= step_s * 800
    assert max(delays) <= step_s * 1200
    assert len(delays) > 100


def test_next_attempt_is_never_after_expiry() -> None:
    assert decide(Word("connect", 0, "", ""), tries=7, expires_at=NOW + 1000).next_at == NOW + 1000


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (Word("rcpt", 550, "5.1.1", ""), (BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT)),
        (Word("dns", 0, "5.1.10", "", permanent=True), (BounceClass.BAD_DOMAIN, Scope.RECIPIENT)),
        (Word("rcpt", 552, "5.2.2", ""), (BounceClass.QUOTA_ISSUES, Scope.RECIPIENT)),
        (Word("dot", 554, "5.6.0", ""), (BounceClass.CONTENT_REFUSED, Scope.CONTENT)),
        (Word("mail", 550, "5.7.1", ""), (BounceClass.POLICY_RELATED, Scope.INFRASTRUCTURE)),
        (Word("dot", 550, "5.7.26", ""), (BounceClass.AUTHENTICATION_FAILED, Scope.CONTENT)),
        (Word("greeting", 554, "5.1.1", ""), (BounceClass.BAD_CONNECTION, Scope.INFRASTRUCTURE)),
        (Word("rcpt", 550, "", "no such user"), (BounceClass.INVALID_RECIPIENT, Scope.RECIPIENT)),
        (Word("rcpt", 451, "", "later"), (BounceClass.TRANSIENT_FAILURE, Scope.INFRASTRUCTURE)),
    ],
)
def test_class(word: Word, expected: tuple[BounceClass, Scope]) -> None:
    assert classify(word) == expected
