"""What a dialect is: one API's paths, its shapes and its words, over the same pipeline as every other.

A dialect is a record of values and functions in a module of its own; there is no base class. It decodes and encodes:
who may send what, when and where to is decided behind `Service`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.api.door import Call
from gateway.api.envelope import Answer, Headers, HttpError
from gateway.api.service import Service
from gateway.errors import Refused
from gateway.policy.limits import Allowance

Serve = Callable[[Service, Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A method on a path. `{}` is a variable segment, the call's `argument`: the last one, or that before it."""

    method: str
    path: str
    serve: Serve


@dataclass(frozen=True, slots=True)
class Dialect:
    """`owns`: beginnings of paths whose errors (404, 405…) are told in this dialect's shape; `/` and other exact
    paths of its operations belong to it anyway. `limit_headers` says how much a key has left, on every answer to it."""

    name: str
    operations: tuple[Operation, ...]
    owns: tuple[str, ...]
    refusal: Callable[[Refused, str], Answer]
    http_error: Callable[[HttpError, str], Answer]
    limit_headers: Callable[[tuple[Allowance, ...]], Headers]
