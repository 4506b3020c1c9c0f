"""Who may hold how much: dead destinations leave room, however many there are."""

from gateway.delivery.hand import CONTENT, OPENING, RECIPIENTS, Hand
from gateway.delivery.lane import FIRST_CLAIM, MOST, Lane
from gateway.delivery.pacing import Outcome, Pace, Standing
from gateway.store.queue import Claimed, Due, Leased
from tests.unit.test_lane import claimed


def lane(standing: Standing) -> Lane:
    pace = Pace(5, 20)
    if standing is not Standing.NEW:
        pace.see(Outcome.ANSWERED if standing is Standing.GOOD else Outcome.SILENT, 0)
    return Lane(Due(1, "direct", "b.test"), pace)


def fill(hand: Hand, one: Lane, count: int, *, first: int = 0) -> list[Claimed]:
    messages = [claimed(first + number) for number in range(count)]
    for message in messages:
        hand.add(one, message)
    return messages


def test_unknown_destinations_get_less_and_then_nothing_and_known_ones_do_not_notice() -> None:
    hand = Hand(1000)
    new = lane(Standing.NEW)
    seen = []
    for number in range(250):
        seen.append(hand.shares())
        fill(hand, new, 1, first=number)
    assert seen[:125] == [(FIRST_CLAIM, MOST, FIRST_CLAIM)] * 125
    assert seen[125:] == [(1, MOST, 0)] * 125  # those that were silent last time leave the rest to new ones
    assert hand.shares() == (0, MOST, 0)


def test_known_destinations_get_less_and_then_nothing_and_new_ones_do_not_notice() -> None:
    hand = Hand(1000)
    good = lane(Standing.GOOD)
    fill(hand, good, 374)
    assert hand.shares() == (FIRST_CLAIM, MOST, FIRST_CLAIM)
    fill(hand, good, 1, first=374)
    assert hand.shares() == (FIRST_CLAIM, FIRST_CLAIM, FIRST_CLAIM)
    fill(hand, good, 375, first=375)
    assert hand.shares() == (FIRST_CLAIM, 0, FIRST_CLAIM)


def test_a_thousand_dead_domains_leave_room_for_new_ones() -> None:
    hand = Hand()
    hand.open(60.0)
    for number in range(1000):
        fill(hand, lane(Standing.NEW), hand.shares()[Standing.NEW], first=number * FIRST_CLAIM)
    assert hand.shares() == (1, MOST, 0)
    assert len(hand.fences) < RECIPIENTS // 4


def test_after_a_start_the_share_of_unknown_destinations_doubles_every_second() -> None:
    hand = Hand()
    held = []
    for second in range(6):
        hand.open(second + 0.5)
        number = len(hand.fences)
        while room := min(FIRST_CLAIM, hand.shares()[Standing.NEW]):
            fill(hand, lane(Standing.NEW), room, first=number * FIRST_CLAIM)
            number += 1
        held.append(len(hand.fences))
        assert hand.opening is (held[-1] < RECIPIENTS // 4)
    assert held == [OPENING, 2 * OPENING, 4 * OPENING, 8 * OPENING, RECIPIENTS // 4, RECIPIENTS // 4]
    hand.open(1.0)  # never less again
    assert hand.shares()[Standing.NEW] == 0
    assert Hand(4 * OPENING).opening is False  # a small hand needs no steps


def test_a_destination_that_answers_takes_its_messages_with_it() -> None:
    hand = Hand(100)
    one = lane(Standing.NEW)
    messages = fill(hand, one, 25)
    assert hand.shares()[Standing.NEW] == 0
    for said, room in ((Outcome.SENT, True), (Outcome.SILENT, False), (Outcome.ANSWERED, True)):
        was_proven = one.pace.proven
        one.pace.see(said, 0)
        hand.changed(one, was_proven=was_proven)
        assert (hand.shares()[Standing.NEW] > 0) is room
    for message in messages:
        hand.drop(one, message)
    assert (one.recipients, hand.fences, hand.shares()) == (0, {}, (FIRST_CLAIM, MOST, FIRST_CLAIM))


def test_who_was_turned_away_asks_again_once_when_something_has_gone() -> None:
    hand = Hand(1000)
    one = lane(Standing.NEW)
    messages = fill(hand, one, 100)
    assert not hand.has_room_again()
    hand.turned_away()
    for message in messages[:9]:
        hand.drop(one, message)
        assert not hand.has_room_again()
    hand.turned_away()
    hand.drop(one, messages[9])
    assert hand.has_room_again()
    assert not hand.has_room_again()


def test_the_last_one_to_go_wakes_whoever_was_turned_away() -> None:
    hand = Hand(1000)
    one = lane(Standing.NEW)
    [message] = fill(hand, one, 1)
    hand.turned_away()
    hand.drop(one, message)
    assert hand.has_room_again()


def test_content_is_kept_up_to_a_bound() -> None:
    hand = Hand()
    one = lane(Standing.NEW)
    half = bytes(CONTENT // 2 + 1)
    kept = []
    for number in range(3):
        message = claimed(number)
        hand.add(one, _with(message, half))
    for _ in range(3):
        taken = one.pending.take()
        assert taken is not None
        kept.append(taken)
    assert [message.content is not None for message in kept] == [True, True, False]
    for message in kept:
        hand.drop(one, message)
    hand.add(one, _with(claimed(9), half))
    again = one.pending.take()
    assert again is not None
    assert again.content is not None


def test_a_little_more_is_allowed_for_mail_of_high_priority() -> None:
    hand = Hand(100)
    fill(hand, lane(Standing.GOOD), 104)
    assert hand.spare
    fill(hand, lane(Standing.GOOD), 1, first=104)
    assert not hand.spare


def _with(message: Claimed, content: bytes) -> Claimed:
    return Claimed(**{name: getattr(message, name) for name in message.__struct_fields__} | {"content": content})


def test_a_message_counts_by_its_recipients() -> None:
    hand = Hand(100)
    one = lane(Standing.NEW)
    many = tuple(Leased(number, "a@b.test", 0, number, possible_duplicate=False) for number in range(30))
    message = Claimed(**{n: getattr(claimed(1), n) for n in claimed(1).__struct_fields__} | {"recipients": many})
    hand.add(one, message)
    assert (one.recipients, len(hand.fences), hand.shares()[Standing.NEW]) == (30, 30, 0)
    hand.drop(one, message)
    assert (one.recipients, len(hand.fences)) == (0, 0)
