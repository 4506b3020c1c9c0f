"""Whatever a host says, there is a decision, and it keeps the promises of verdict.py."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery import hints, rules
from gateway.delivery.verdict import Word, another_host, classify, judge, judge_once
from gateway.events import BounceClass, Scope, State
from tests.fuzz import effort

NOW = 1_800_000_000_000
STAGES = (
    *("connect", "greeting", "ehlo", "starttls", "tls", "auth", "route", "dns"),
    *("mail", "rcpt", "data", "body", "dot", "store", "internal", "unheard-of", ""),
)
SPOKEN = st.lists(
    st.one_of(
        st.sampled_from([phrase for rule in rules.TEXTS for phrase in rule.phrases]),
        st.sampled_from(["try again in", "wait", "greylisted", "for", "5 minutes", "00:05:00", "999999999 days", "0s"]),
        st.text(max_size=12),
    ),
    max_size=8,
).map(" ".join)
ENHANCED = st.one_of(
    st.just(""),
    st.builds("{}.{}.{}".format, st.sampled_from("245"), st.integers(0, 999), st.integers(0, 999)),
    st.builds("{}.{}".format, st.sampled_from("45"), st.sampled_from(sorted(rules.CODES))),
    st.text(max_size=8),
)
CODE = st.one_of(st.integers(0, 999), st.sampled_from([0, 250, 354, 421, 450, 451, 452, 530, 550, 552, 554]))
WORD = st.builds(Word, st.sampled_from(STAGES), CODE, ENHANCED, SPOKEN, st.booleans())
RETRY_S = st.lists(st.floats(0.0001, 1_000_000), min_size=1, max_size=8)


@effort.examples(400)
@given(
    WORD, st.integers(0, 10_000), st.integers(-1000, 10**12), RETRY_S, st.floats(0, 1, exclude_max=True), st.booleans()
)
def test_every_word_gets_a_decision(
    word: Word, tries: int, left_ms: int, retry_s: list[float], jitter: float, at_the_end: bool
) -> None:
    expires_at = NOW if at_the_end else NOW + left_ms
    decision = judge(word, tries=tries, expires_at=expires_at, now=NOW, retry_s=retry_s, jitter=jitter)
    if 200 <= word.code < 300:
        assert decision.state is State.DELIVERED
        return
    assert decision.state in {State.DEFERRED, State.BOUNCED, State.FAILED}
    assert (decision.state is State.BOUNCED) <= (500 <= word.code < 600)
    assert (decision.state is State.FAILED) == (expires_at <= NOW and decision.state is not State.BOUNCED)
    if decision.state is State.DEFERRED:
        assert NOW < decision.next_at <= expires_at
    if decision.scope is Scope.RECIPIENT:
        assert word.stage not in {"mail", "greeting", "ehlo", "auth"}
        assert word.code != 421
    if decision.bounce_class is BounceClass.REPUTATION_BLOCK:
        assert decision.scope is Scope.INFRASTRUCTURE  # trap 18
    assert another_host(word) == (decision.state is not State.BOUNCED and not word.uncertain)


@effort.examples(200)
@given(WORD)
def test_the_class_does_not_depend_on_the_way_it_is_asked_for(word: Word) -> None:
    once = judge_once(word)
    if once.state is not State.DELIVERED:
        assert (once.bounce_class, once.scope) == classify(word)


@effort.examples(200)
@given(st.text(max_size=2000), st.integers(1, 999), st.sampled_from(["seconds", "min", "h", "days"]))
def test_a_time_is_read_or_not_and_never_negative(noise: str, number: int, unit: str) -> None:
    found = hints.wait_s(noise)
    assert found is None or found >= 0
    assert hints.wait_s(f"try again in {number} {unit} {noise}") is not None
