"""The relay of an i-as request, in its header fields.

Two forms, and any mixture of them: `server, port, secure, email, password`, or `X-SMTP-Server, -Port, -Secure` with
Basic `email:password`. Guarantees: what is missing or wrong is refused by name, all of it at once; without a word of
a relay there is none, and the password is a key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.api.dialects import fieldtable
from gateway.api.dialects.fieldtable import Reader
from gateway.api.door import Call
from gateway.api.fields import Problems
from gateway.config import Secret

_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[?[0-9A-Fa-f:.]{2,45}\]?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_SWITCH: Final = {"true": True, "false": False}
BASIC: Final = "Authorization"


@dataclass(frozen=True, slots=True)
class Relay:
    """A server of the request's own choice. `secure`: TLS is required."""

    server: str
    port: int
    secure: bool
    email: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key as the password, without a server: `email` is any name."""

    email: str
    password: Secret


@dataclass(frozen=True, slots=True)
class HeaderField:
    """A header field by its two names and its place in `Relay`."""

    name: str
    other: str
    attribute: str
    read: Reader


def read(call: Call) -> Relay | Credentials:
    """What the header says. Raises Refused (400) with every problem."""
    given = {field.attribute: _given(field, call) for field in HEADERS}
    if not (given["server"] or given["port"] or given["secure"]):
        return Credentials(given["email"], Secret(given["password"]))
    problems = Problems()
    values: dict[str, Any] = {}
    for field in HEADERS:
        path = _path(field, call.request.headers)
        if given[field.attribute]:
            values[field.attribute] = field.read(given[field.attribute], path, problems)
        elif not any(found.path == path for found in problems.found):
            problems.add(path, _required(path), "missing_parameter")
    problems.refuse()
    return Relay(**values)


def _given(field: HeaderField, call: Call) -> str:
    """The field's text, "" where it is missing."""
    text = call.request.headers.get(field.name)
    if text:
        return text
    if field.other != BASIC:
        return call.request.headers.get(field.other, "")
    user, password = call.basic() or ("", "")
    return user if field.attribute == "email" else password


def _path(field: HeaderField, headers: Mapping[str, str]) -> str:
    """The name to tell a client of: the one it used, or that of the form it used."""
    if headers.get(field.name):
        return field.name
    x_form = any(headers.get(one.other) for one in HEADERS)
    return field.other if x_form else field.name


def _required(path: str) -> str:
    return "must be Basic with email:password in base64" if path == BASIC else "is required"


def _host(value: Any, path: str, problems: Problems) -> str | None:
    if _HOST.fullmatch(value):
        return str(value)
    problems.add(path, "must be a host name")
    return None


def _port(value: Any, path: str, problems: Problems) -> int | None:
    if _PORT.fullmatch(value) and 0 < int(value) < 65536:
        return int(value)
    problems.add(path, "must be a number from 1 to 65535")
    return None


def _switch(value: Any, path: str, problems: Problems) -> bool | None:
    if value.lower() not in _SWITCH:
        problems.add(path, "must be true or false")
    return _SWITCH.get(value.lower())


def _text(value: Any, path: str, problems: Problems) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 come as lone surrogates
        problems.add(path, "must be UTF-8")
        return None
    return fieldtable.credential(value, path, problems)


def _secret(value: Any, path: str, problems: Problems) -> Secret | None:
    text = _text(value, path, problems)
    return Secret(text) if text is not None else None


HEADERS: Final = (
    HeaderField("server", "X-SMTP-Server", "server", _host),
    HeaderField("port", "X-SMTP-Port", "port", _port),
    HeaderField("secure", "X-SMTP-Secure", "secure", _switch),
    HeaderField("email", BASIC, "email", _text),
    HeaderField("password", BASIC, "password", _secret),
)
