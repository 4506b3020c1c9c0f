"""Making, listing, showing, replacing and removing templates, whoever asks (the HTTP API, the CLI).

Guarantees: what is stored can be read as a template; all that is wrong is said at once; an account sees its own
templates and those of the directory, which nobody changes here; each change is in the log, without its text.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.errors import Problem, Reason, Refused
from gateway.message.template_tags import CODE
from gateway.policy import templates
from gateway.policy.templates import MAX_TEMPLATES, PREFIX, Templates
from gateway.runtime import Clock, rfc3339, show_id, uuid7
from gateway.store.records import Duplicate, Records, TemplateRecord

Args = dict[str, Any]
Action = Callable[[Args], Awaitable[Any]]

_REASONS: Final = {
    "missing_parameter": Reason.MISSING_PARAMETER,
    "validation_error": Reason.VALIDATION_ERROR,
    CODE: Reason.TEMPLATE_ERROR,
}

log = logging.getLogger("gateway.templates")


@dataclass(frozen=True, slots=True)
class TemplateText:
    """A template as it is given; `alias` "" for none (when it replaces another: for the one it has)."""

    alias: str
    subject: str
    html: str | None
    text: str | None

    def problems(self) -> list[Problem]:
        """Everything that is wrong with it. A large one takes some 50 ms."""
        found = templates.check(self.subject, self.html, self.text)
        if self.alias and not templates.is_alias(self.alias):
            words = f"must be {templates.ALIAS_FORM}, and no template id"
            found.insert(0, Problem("alias", words, "validation_error"))
        return found


class TemplateManager:
    """Templates of one store, beside those of the directory."""

    def __init__(self, records: Records, found: Templates, *, clock: Clock) -> None:
        self._records = records
        self._found = found
        self._clock = clock

    async def add(self, account: str, given: TemplateText) -> TemplateRecord:
        """Store a template without problems. Raises Refused (CONFLICT, VALIDATION_ERROR), StoreError, StoreFull."""
        now = self._clock.now_ms()
        record = TemplateRecord(
            uuid=uuid7(now),
            account=account,
            alias=given.alias,
            subject=given.subject,
            html=given.html,
            text=given.text,
            created_at=now,
            updated_at=now,
        )
        try:
            added = await self._records.add_template(record, most=MAX_TEMPLATES)
        except Duplicate as error:
            raise _taken(given.alias) from error
        if not added:
            text = f"The account has {MAX_TEMPLATES} templates, and no room for more: remove one."
            raise Refused(Reason.VALIDATION_ERROR, text)
        _tell("added", record)
        return record

    async def listing(self, account: str) -> Sequence[TemplateRecord]:
        """The account's own, then those of the directory that none of them hides. Raises StoreError."""
        stored = await self._records.templates(account)
        aliases = {record.alias for record in stored}
        return [*stored, *(record for record in await self._found.files() if record.alias not in aliases)]

    async def get(self, account: str, reference: str) -> TemplateRecord:
        """By id or alias. Raises Refused (NOT_FOUND), StoreError."""
        record = await self._found.record(account, reference)
        if record is None:
            raise _unknown()
        return record

    async def replace(self, account: str, reference: str, given: TemplateText) -> TemplateRecord:
        """Store another text in its place; it keeps its id, and its alias where none is given.

        Raises Refused (NOT_FOUND, CONFLICT), StoreError, StoreFull.
        """
        old = await self._own(account, reference)
        record = replace(
            old,
            alias=given.alias or old.alias,
            subject=given.subject,
            html=given.html,
            text=given.text,
            updated_at=max(self._clock.now_ms(), old.created_at),
        )
        try:
            replaced = await self._records.replace_template(record)
        except Duplicate as error:
            raise _taken(given.alias) from error
        if not replaced:
            raise _unknown()
        _tell("replaced", record)
        return record

    async def remove(self, account: str, reference: str) -> TemplateRecord:
        """For good. Raises Refused (NOT_FOUND, CONFLICT), StoreError."""
        record = await self._own(account, reference)
        if not await self._records.remove_template(account, record.uuid):
            raise _unknown()
        _tell("removed", record)
        return record

    async def _own(self, account: str, reference: str) -> TemplateRecord:
        record = await self.get(account, reference)
        if templates.in_directory(record):
            text = f"The template {record.alias} is a file of the gateway's directory of templates: change it there."
            raise Refused(Reason.CONFLICT, text)
        return record

    # What the CLI asks for

    def actions(self) -> Mapping[str, Action]:
        """What can be asked for by name."""
        return {
            "template.add": self.template_add,
            "template.list": self.template_list,
            "template.show": self.template_show,
            "template.remove": self.template_remove,
        }

    async def template_add(self, args: Args) -> Any:
        """Args: account, alias, subject, html, text."""
        account = _account(args)
        given = TemplateText(str(args["alias"]), args.get("subject") or "", args.get("html"), args.get("text"))
        problems = await asyncio.to_thread(given.problems)
        if not given.alias:
            problems.insert(0, Problem("alias", "is required", "missing_parameter"))
        refuse(problems)
        return view(await self.add(account, given))

    async def template_list(self, args: Args) -> Any:
        """Args: account. Without their text."""
        return [head(record) for record in await self.listing(_account(args))]

    async def template_show(self, args: Args) -> Any:
        """Args: account, reference (id or alias)."""
        return view(await self.get(_account(args), str(args["reference"])))

    async def template_remove(self, args: Args) -> Any:
        """Args: account, reference (id or alias)."""
        return {**head(await self.remove(_account(args), str(args["reference"]))), "removed": True}


def head(record: TemplateRecord) -> dict[str, Any]:
    """A template as JSON values, without its bodies; one of the directory has no id."""
    declared = templates.in_directory(record)
    return {
        "id": None if declared else show_id(PREFIX, record.uuid),
        "alias": record.alias or None,
        "subject": record.subject,
        "source": "directory" if declared else "store",
        "created_at": rfc3339(record.created_at),
        "updated_at": rfc3339(record.updated_at),
    }


def view(record: TemplateRecord) -> dict[str, Any]:
    """The whole of it."""
    return {**head(record), "html_body": record.html, "text_body": record.text}


def refuse(problems: Sequence[Problem]) -> None:
    """Raise Refused with all problems, those of form (400) before those of content (422)."""
    if not problems:
        return
    ordered = sorted(problems, key=lambda problem: _reason(problem).answer.http)
    more = f" ({len(ordered) - 1} more in errors)" if len(ordered) > 1 else ""
    raise Refused(_reason(ordered[0]), f"{ordered[0]}{more}", param=ordered[0].path, problems=ordered)


def _reason(problem: Problem) -> Reason:
    return _REASONS.get(problem.code, Reason.INVALID_PARAMETER)


def _account(args: Args) -> str:
    account = str(args["account"])
    if not account or not account.isprintable():
        refuse([Problem("account", "an account has printable characters, one at least")])
    return account


def _unknown() -> Refused:
    return Refused(Reason.NOT_FOUND, "There is no template with this id or alias.")


def _taken(alias: str) -> Refused:
    return Refused(Reason.CONFLICT, f"There is a template with the alias {alias} already.", param="alias")


def _tell(what: str, record: TemplateRecord) -> None:
    log.info("template %s %s: account=%s alias=%s", show_id(PREFIX, record.uuid), what, record.account, record.alias)
