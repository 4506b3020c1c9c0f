"""Every parser of foreign text: never an exception but its own, and work that grows as the text does (S21a)."""

import sys
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given

from tests.fuzz import effort
from tests.fuzz.foreign import PARSERS, PIECES, TEXT, Parser

_LENGTH = 5_000  # characters of the shorter text
_TIMES = 4
_NOISE_S = 0.03  # of a busy machine


@pytest.mark.parametrize("name", PARSERS)
def test_nothing_but_the_documented_exception(name: str) -> None:
    parser = PARSERS[name]

    @effort.examples(60)
    @given(TEXT)
    @example("")
    def attempt(text: str) -> None:
        _run(parser, text)

    attempt()


@pytest.mark.parametrize("name", PARSERS)
def test_each_piece_alone_and_twice(name: str) -> None:
    for piece in PIECES:
        _run(PARSERS[name], piece)
        _run(PARSERS[name], piece * 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_each_pair_of_pieces(name: str) -> None:
    for first in PIECES:
        for second in PIECES:
            _run(PARSERS[name], first + second)


def _run(parser: Parser, text: str) -> None:
    told: list[Exception] = []
    try:
        parser.run(text)
    except parser.refusals as refusal:
        told.append(refusal)
    for one in told:
        assert str(one)
        assert str(one).isprintable()
        # Much is a ValueError: what is meant is said in words of ours.
        assert parser.refusals != (ValueError,) or type(one) is ValueError


# Time


def hostile() -> Iterator[tuple[str, str]]:
    """(what, a text of about _LENGTH characters): each piece again and again, and behind what opens something."""
    for piece in PIECES:
        yield piece, piece * (_LENGTH // len(piece))
    for opening in ("From: ", '"', "<", "(", "=?utf-8?q?", "[", "{{#", "{{", '{"a":', "<!--", "<a ", "a@", " "):
        for piece in ("a", " ", "\\", '"', "=?", "\t", ".", "(", "[", "<", "{", "\r\n ", "a ", ", "):
            yield f"{opening} {piece}", opening + piece * (_LENGTH // len(piece))


def cost_s(run: Callable[[], object]) -> float:
    """The least of three: what else the machine does counts as little as can be."""
    best = 1e9
    for _ in range(3):
        begin = time.process_time()
        run()
        best = min(best, time.process_time() - begin)
        if best < _NOISE_S / 10:
            break
    return best


def grows_too_fast(parser: Parser, text: str) -> bool:
    def run(text: str) -> Callable[[], None]:
        def attempt() -> None:
            try:
                parser.run(text)
            except parser.refusals:
                return

        return attempt

    long = cost_s(run(text * _TIMES))
    # _TIMES the text may take _TIMES the time, and as much again for caches; the square of it is four times more.
    return long > _NOISE_S and long > 2 * _TIMES * cost_s(run(text)) + _NOISE_S


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, parser in PARSERS.items() if not parser.short])
def test_work_grows_as_the_text_does(name: str) -> None:
    parser = PARSERS[name]
    slow = [what for what, text in hostile() if grows_too_fast(parser, text)]
    assert slow == []


@pytest.mark.slow
def test_what_is_quadratic_is_found_out() -> None:
    def quadratic(text: str) -> None:
        for _ in range(len(text) // 15):
            sum(range(len(text) // 15))

    assert grows_too_fast(Parser(quadratic), "x" * _LENGTH * 4)
    assert not grows_too_fast(Parser(lambda text: sum(map(ord, text))), "x" * _LENGTH * 4)


def test_the_stack_is_not_the_limit() -> None:
    """Nesting without end: no recursion but the decoder's own, which is told."""
    deep = sys.getrecursionlimit() * 5
    for name, parser in PARSERS.items():
        for opening in ("(", "[", "{", '{"a":', '[{"a":', "{{#a}}", "<ul>", "<a href=", '"', "=?", "((", "<!--<"):
            try:
                parser.run(opening * (deep if not parser.short else 100))
            except parser.refusals:
                continue
            except RecursionError:
                pytest.fail(f"{name}: {opening}")
