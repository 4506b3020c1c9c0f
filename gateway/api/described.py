"""What the documentation says of an operation: what it takes, answers and refuses.

Guarantees: values only. Which operations there are is in operations.py.
"""

from dataclasses import dataclass
from typing import Any, Final

READ: Final = (400, 401, 429, 500, 503)  # who guesses keys is not judged: 429, wherever a key is asked for
BODY: Final = (408, 413, 415)  # besides, of what has one


@dataclass(frozen=True, slots=True)
class Success:
    """`data`: the schema of the member `data`, `listed` that of an entry of it where it is a page of a list; "" where
    the answer has no envelope, its schema is `body` then. `streamed`: the content type of another form of it, a text.

    `links`: operations that its id is an argument of, and where in the answer that id stands.
    """

    text: str
    data: str = ""
    body: str = ""
    listed: str = ""
    streamed: str = ""
    content_type: str = "application/json"
    replays: bool = False  # it may be the answer to an earlier request with the same Idempotency-Key
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Described:
    """An operation. `path` has `{id}` where the server's has `{}`; `argument` is the schema of that. `parameters` are
    those of the query, and what else it reads of its own.

    `scope`: what the key must have, `a or b` where one of two will do; "" for any key, None where no key is asked for.
    `errors`: statuses. `body`: the schema of the request's body, `example` one that works.
    """

    name: str
    method: str
    path: str
    title: str
    text: str
    scope: str | None
    answers: dict[int, Success]
    errors: tuple[int, ...]
    argument: dict[str, Any] | None = None
    body: str = ""
    example: dict[str, Any] | None = None
    idempotent: bool = False  # takes the header Idempotency-Key
    parameters: tuple[dict[str, Any], ...] = ()
