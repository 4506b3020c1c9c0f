"""The exception tree. Each door maps it once; nothing else is raised on purpose.

GatewayError
├── ConfigError      the configuration cannot be used; `problems` names every fault with its line
├── Refused          this submission (or request) is not taken, for a stated reason
├── DkimKeyError     a key that cannot sign (message/dkim.py)
├── Duplicate        a name or secret that is there already (store/records.py)
├── HttpError        what HTTP itself refuses: method, type, time (api/envelope.py)
└── StoreError       the store cannot be read or written now: temporary for every client
    ├── StoreFull    no room left: temporary, and nothing was stored
    ├── Unwritable   nothing can be written at the moment (store/connection.py)
    ├── Damaged      what is read is not what was written (store/connection.py)
    ├── NewerSchema  the database was written by a newer version (store/db.py)
    └── VaultError   the master key does not fit (store/vault.py)

A command of the CLI has one of its own where nothing above says it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class GatewayError(Exception):
    """Base of all errors raised on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a configuration or a request: `path` is the field (`routes.ses.host`, `to[1]`), `line` from 1."""

    path: str
    message: str
    code: str = "invalid_parameter"
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class ConfigError(GatewayError):
    """The configuration cannot be used; carries every problem found, never only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class StoreError(GatewayError):
    """The store cannot be read or written now: clients are told to try again (451, 503)."""


class StoreFull(StoreError):
    """There is no room: nothing was stored (452 4.3.1, 503)."""


class Answer(NamedTuple):
    """How a refusal is said on both doors. The enhanced code is RFC 3463's."""

    http: int
    smtp: int
    enhanced: str


class Reason(Enum):
    """Every reason to refuse, with its words on the wire: (error code of the API, answer)."""

    INVALID_JSON = ("invalid_json", Answer(400, 550, "5.6.0"))
    INVALID_PARAMETER = ("invalid_parameter", Answer(400, 501, "5.5.4"))
    MISSING_PARAMETER = ("missing_parameter", Answer(400, 501, "5.5.4"))
    AUTHENTICATION_REQUIRED = ("authentication_required", Answer(401, 535, "5.7.8"))
    INSUFFICIENT_PERMISSIONS = ("insufficient_permissions", Answer(403, 550, "5.7.1"))
    SENDER_NOT_ALLOWED = ("sender_not_allowed", Answer(403, 550, "5.7.1"))
    NOT_FOUND = ("not_found", Answer(404, 550, "5.1.1"))
    CONFLICT = ("conflict", Answer(409, 550, "5.5.0"))
    IDEMPOTENCY_CONFLICT = ("idempotency_conflict", Answer(409, 550, "5.5.0"))
    PAYLOAD_TOO_LARGE = ("payload_too_large", Answer(413, 552, "5.3.4"))
    MALFORMED_MESSAGE = ("validation_error", Answer(422, 550, "5.6.0"))
    VALIDATION_ERROR = ("validation_error", Answer(422, 501, "5.1.3"))
    RECIPIENT_SUPPRESSED = ("recipient_suppressed", Answer(422, 550, "5.7.1"))
    NOT_SUPPORTED = ("not_supported", Answer(422, 504, "5.5.4"))
    TEMPLATE_ERROR = ("template_error", Answer(422, 550, "5.6.0"))
    LOOP = ("validation_error", Answer(422, 554, "5.4.6"))
    TOO_MANY_RECIPIENTS = ("validation_error", Answer(422, 452, "4.5.3"))
    THROTTLED = ("rate_limit_exceeded", Answer(429, 421, "4.7.0"))
    UNQUALIFIED = ("validation_error", Answer(422, 553, "5.1.3"))
    RATE_LIMITED = ("rate_limit_exceeded", Answer(429, 450, "4.7.1"))
    NO_ROUTE = ("no_active_providers", Answer(503, 451, "4.3.5"))
    BACKLOG_FULL = ("backlog_full", Answer(503, 452, "4.3.1"))
    STORAGE_UNAVAILABLE = ("storage_unavailable", Answer(503, 451, "4.3.0"))
    SHUTTING_DOWN = ("storage_unavailable", Answer(503, 421, "4.3.2"))

    @property
    def code(self) -> str:
        return self.value[0]

    @property
    def answer(self) -> Answer:
        return self.value[1]


class Refused(GatewayError):
    """A submission or request that is not taken.

    `text` is public: it names the field and what to do, never a host, path or class of ours. `param` is the field at
    fault; `problems` holds every fault where there are several (the first is the one in `text`). `told`: it is in the
    mail log.
    """

    def __init__(
        self,
        reason: Reason,
        text: str,
        *,
        param: str | None = None,
        problems: Sequence[Problem] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.param = param
        self.problems = tuple(problems)
        self.retry_after_s = retry_after_s
        self.told = False

    @property
    def smtp_reply(self) -> str:
        """One reply line without CRLF: `550 5.7.1 text`."""
        answer = self.reason.answer
        return f"{answer.smtp} {answer.enhanced} {self.text}"
