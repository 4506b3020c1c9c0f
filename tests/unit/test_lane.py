"""What is next in a lane: priorities, turns of keys, the connection that is kept free."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.lane import FIRST_CLAIM, MOST, Lane, Pending
from gateway.delivery.pacing import Outcome, Pace
from gateway.store.queue import Claimed, Due, Leased
from tests.fakes.desk import FACTS


def claimed(number: int, *, key: str = "k", priority: int = 1, expires_at: int = 100) -> Claimed:
    return Claimed(
        message=number,
        uuid=b"",
        account="a",
        key=key,
        envelope_sender="",
        header_from="",
        message_id="",
        facts=FACTS,
        created_at=0,
        expires_at=expires_at,
        priority=priority,
        piece_count=1,
        content=None,
        recipients=(Leased(number, "a@b.test", 0, 1, possible_duplicate=False),),
    )


def pending(*messages: Claimed) -> Pending:
    made = Pending()
    for message in messages:
        made.add(message)
    return made


def order(of: Pending) -> list[int]:
    return [message.message for message in iter(of.take, None)]


def test_keys_take_turns_whoever_has_how_much() -> None:
    bulk = [claimed(n, key="bulk") for n in range(6)]
    assert order(pending(*bulk, claimed(10, key="one"), claimed(20, key="two"), claimed(11, key="one"))) == [
        *(0, 10, 20),
        *(1, 11),
        *(2, 3, 4, 5),
    ]


def test_who_comes_later_waits_for_one_turn() -> None:
    waiting = pending(*[claimed(n, key="bulk") for n in range(100)], *[claimed(n, key="more") for n in range(100, 200)])
    for _ in range(7):
        waiting.take()
    waiting.add(claimed(500, key="late"))
    assert order(waiting).index(500) <= 2


def test_priority_goes_before_turns() -> None:
    messages = [claimed(n, key=key, priority=n % 3) for n, key in zip(range(9), itertools.cycle("aab"), strict=False)]
    assert [number % 3 for number in order(pending(*messages))] == [0] * 3 + [1] * 3 + [2] * 3


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=60), st.lists(st.booleans()))
def test_everything_comes_out_once_and_a_keys_own_in_order(kinds: list[tuple[str, int]], takes: list[bool]) -> None:
    made = Pending()
    out: list[Claimed] = []
    for number, (key, priority) in enumerate(kinds):
        made.add(claimed(number, key=key, priority=priority))
        if number < len(takes) and takes[number] and (taken := made.take()) is not None:
            out.append(taken)
        assert len(made) == number + 1 - len(out)
        assert made.high == sum(1 for k in kinds[: number + 1] if k[1] == 0) - sum(1 for c in out if c.priority == 0)
    out += iter(made.take, None)
    assert sorted(c.message for c in out) == list(range(len(kinds)))
    for key, priority in itertools.product("abc", range(3)):
        own = [c.message for c in out if (c.key, c.priority) == (key, priority)]
        assert own == sorted(own)


def test_what_is_late_is_taken_out_and_the_rest_keeps_its_order() -> None:
    made = pending(*[claimed(n, expires_at=50 if n % 2 else 100, priority=n % 4 // 2) for n in range(8)])
    assert sorted(c.message for c in made.take_late(50)) == [1, 3, 5, 7]
    assert (len(made), made.high) == (4, 2)
    assert order(made) == [0, 4, 2, 6]


def lane(*, width: int, messages: int = 0) -> Lane:
    made = Lane(Due(1, "direct", "b.test"), Pace(width, max(width, 20)))
    for number in range(messages):
        made.pending.add(claimed(number))
    return made


def test_ordinary_mail_leaves_a_connection_to_mail_of_high_priority() -> None:
    for width, ordinary in ((1, 1), (2, 2), (3, 2), (5, 4), (19, 18), (20, 18), (40, 36)):
        one = lane(width=width, messages=50)
        taken = [message for _ in range(width) if (message := one.take()) is not None]
        assert len(taken) == ordinary, width
        one.pending.add(claimed(99, priority=0))
        got = one.take()
        assert got is not None
        assert got.priority == 0
        one.done(got)
        assert one.take() is None
        one.done(taken[0])
        assert one.take() is not None


def test_a_lane_that_is_not_answered_counts_what_is_on_the_wire() -> None:
    one = lane(width=5)
    assert one.room(MOST) == FIRST_CLAIM
    one.recipients = FIRST_CLAIM  # all of them on the wire
    assert one.room(MOST) == 0
    assert one.room(1) == 0
    one.pace.see(Outcome.SENT, 0)
    assert one.room(MOST) == FIRST_CLAIM
    one.claim_size = MOST
    assert one.room(MOST) == MOST


def test_a_claim_is_made_for_half_of_it_or_more() -> None:
    one = lane(width=5, messages=MOST // 2 + 1)
    one.pace.see(Outcome.SENT, 0)
    one.claim_size = MOST
    assert (one.room(MOST), one.hungry) == (0, False)
    one.take()
    assert (one.room(MOST), one.hungry) == (MOST // 2, True)
    assert one.room(0) == 0
