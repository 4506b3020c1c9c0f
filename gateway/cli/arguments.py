"""Values of the command line: what argparse calls to read one. ArgumentTypeError says what is wrong (exit code 2)."""

from argparse import ArgumentTypeError
from typing import Final

from gateway import configfile, yamltree
from gateway.config import Listen
from gateway.configfile import grammar, keymodes

MAX_DURATION_S: Final = 100 * 365 * 86_400  # a time that far from now is still a date


def duration(text: str) -> float:
    """Seconds of `90d`, `1h`, `10s`; more than nothing."""
    try:
        seconds = yamltree.duration_s(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    if not 0 < seconds <= MAX_DURATION_S:
        raise ArgumentTypeError(f"{text!r} is not more than nothing and at most 100 years")
    return seconds


def delay(text: str) -> float:
    """Seconds as `duration` reads them; `0s` too."""
    try:
        return 0.0 if yamltree.duration_s(text) == 0 else duration(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def network(text: str) -> str:
    """`192.168.1.0/24`, `192.0.2.7`; as text, for it goes to the daemon."""
    try:
        return str(grammar.network(text))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is {error}") from error


def listen(text: str) -> Listen:
    """`127.0.0.1:2525`, `[::1]:2525`."""
    try:
        return configfile.parse_listen(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def limit(text: str) -> str:
    """`recipients=100/min`, `recipients=100/min,burst=200`; as text, for it goes to the daemon."""
    try:
        return str(configfile.parse_limit(text))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def key_mode(text: str) -> str:
    """`hold`, `redirect:ADDRESS`; as text, for it goes to the daemon."""
    try:
        return str(keymodes.mode(text))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def tracks(text: str) -> list[str]:
    """`opens,clicks`."""
    try:
        return keymodes.tracks(keymodes.tracked(text.split(",")))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def brake(text: str) -> str:
    """`volume=5000/day`; as text, for it goes to the daemon."""
    try:
        keymodes.parse_brakes((text,))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def kept(text: str) -> str:
    """`messages=30d`; as text, for it goes to the daemon."""
    try:
        keymodes.parse_retention((text,))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def at_least_one(text: str) -> int:
    """A whole number from 1."""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
