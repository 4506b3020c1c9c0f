"""What operators say of a key, as values. Refused says what is wrong, and with which argument."""

from typing import Any

from gateway import configfile
from gateway.config import Network
from gateway.configfile import grammar, keymodes, notifications
from gateway.keyterms import Brakes, Duplicates, KeyRetention, Limit, Mode
from gateway.manage import refusals
from gateway.message import address
from gateway.policy import auth


def network(text: str) -> Network:
    try:
        return grammar.network(text)
    except ValueError as error:
        raise refusals.invalid("ip", f"{text!r} is {error}") from error


def scopes(names: Any) -> tuple[str, ...]:
    unknown = [name for name in names if name not in auth.SCOPES]
    if unknown:
        raise refusals.invalid("scope", f"unknown: {', '.join(unknown)}; there are {', '.join(auth.SCOPES)}")
    return tuple(dict.fromkeys(names))


def limits(texts: Any) -> tuple[Limit, ...]:
    try:
        return configfile.parse_limits(texts)
    except ValueError as error:
        raise refusals.invalid("limit", str(error)) from error


def duplicates(word: str | None) -> Duplicates:
    try:
        return Duplicates(word) if word is not None else Duplicates.AT_LEAST_ONCE
    except ValueError as error:
        raise refusals.invalid("duplicates", f"{word!r} is not one of {', '.join(Duplicates)}") from error


def dsn(words: Any) -> int | None:
    try:
        return notifications.total(map(notifications.word, words)) if words else None
    except ValueError as error:
        raise refusals.invalid("dsn", str(error)) from error


def sender_pattern(pattern: str) -> str:
    text = pattern if "@" in pattern or pattern == "*" else f"*@{pattern}"
    try:
        return address.check_pattern(text)
    except address.AddressError as error:
        raise refusals.invalid("from", str(error)) from error


def default_from(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        address.parse_mailbox(text)
    except address.AddressError as error:
        raise refusals.invalid("default_from", str(error)) from error
    return text


def mode(text: str | None) -> Mode:
    try:
        return Mode() if text is None else keymodes.mode(text)
    except ValueError as error:
        raise refusals.invalid("mode", str(error)) from error


def track(words: Any, public_url: str | None) -> int:
    try:
        total = keymodes.tracked(words)
    except ValueError as error:
        raise refusals.invalid("track", str(error)) from error
    if total and public_url is None:
        raise refusals.invalid("track", "recipients could not reach us: tracking needs http.public_url")
    return total


def brakes(texts: Any) -> Brakes:
    try:
        return keymodes.parse_brakes(texts)
    except ValueError as error:
        raise refusals.invalid("brake", str(error)) from error


def retention(texts: Any) -> KeyRetention:
    try:
        return keymodes.parse_retention(texts)
    except ValueError as error:
        raise refusals.invalid("retention", str(error)) from error
