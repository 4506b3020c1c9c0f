"""Who waits for room in the hand: in the order they came, and without being looked at."""

from gateway.delivery.lane import FIRST_CLAIM
from gateway.delivery.lobby import Lobby
from gateway.delivery.pacing import Standing
from gateway.store.queue import Due

NEW, GOOD, SILENT = Standing.NEW, Standing.GOOD, Standing.SILENT


def due(number: int) -> Due:
    return Due(number, "direct", f"d{number}.test")


def lobby(*standings: Standing) -> Lobby:
    """Destinations 0, 1, …, as they came."""
    made = Lobby()
    for number, standing in enumerate(standings):
        made.turn_away(due(number), standing)
    return made


def taken(made: Lobby, shares: tuple[int, int, int]) -> list[int]:
    found = []
    while (one := made.take(shares)) is not None:
        found.append(one.destination)
    return found


def test_who_came_first_is_first_whatever_is_known_of_them() -> None:
    made = lobby(SILENT, NEW, GOOD, NEW, SILENT)
    assert len(made) == 5
    assert taken(made, (1, 1, 1)) == [0, 1, 2, 3, 4]
    assert len(made) == 0


def test_who_may_have_none_is_passed_over_and_keeps_its_place() -> None:
    made = lobby(SILENT, NEW, GOOD, NEW, SILENT)
    assert taken(made, (0, 1, 0)) == [2]
    assert taken(made, (0, 0, 0)) == []
    assert taken(made, (1, 0, 1)) == [0, 1, 3, 4]


def test_who_waits_is_not_looked_at_but_for_a_rush() -> None:
    made = lobby(NEW, NEW)
    made.excuse(2)
    everybody = [due(number) for number in range(4)]
    assert [one.destination for one in made.others(everybody, ())] == [3]
    assert [one.destination for one in made.others(everybody, {1, 2})] == [1, 2, 3]
    made.take((1, 1, 1))
    assert [one.destination for one in made.others(everybody, ())] == [0, 3]


def test_who_is_turned_away_again_keeps_its_place() -> None:
    made = lobby(NEW, NEW)
    made.turn_away(due(0), GOOD)
    assert len(made) == 2
    assert taken(made, (1, 1, 1)) == [0, 1]


def test_who_has_something_in_hand_and_does_not_answer_waits_for_a_whole_share() -> None:
    made = Lobby()
    for number, standing in enumerate((NEW, GOOD, SILENT)):
        made.turn_away(due(number), standing, begun=True)
    made.turn_away(due(3), NEW)
    assert len(made) == 4
    assert taken(made, (1, 0, 1)) == [3]
    assert taken(made, (1, 1, 1)) == [1]
    assert taken(made, (FIRST_CLAIM, 0, FIRST_CLAIM)) == [0, 2]


def test_who_leaves_is_looked_at_again() -> None:
    made = lobby(NEW, GOOD)
    made.excuse(2)
    for number in (0, 2, 3):
        made.leave(number)
    assert [one.destination for one in made.others([due(number) for number in range(4)], ())] == [0, 2, 3]
    assert taken(made, (1, 1, 1)) == [1]
