"""The fields of a JSON object as a table: what decodes a request also documents it.

Guarantees: pure; null, "" and [] are absent; an unknown field is a problem that names the nearest known one; a field by
two of its names is a problem too; the schema has every name that is taken, and no other.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.api import fields
from gateway.api.fields import Problems
from gateway.api.schema import Schema
from gateway.config import Limits

MAX_SUGGESTIONS: Final = 10  # in one request: looking for the nearest name costs 0.1 ms each


Reader = Callable[..., Any]  # (value, path, problems), and limit=… where the field has one; gives what the value means


@dataclass(frozen=True, slots=True)
class Field:
    """`schema` is JSON Schema (2020-12), `text` one sentence for people. `attribute` is the place of what was read, ""
    where it has none. `limit` names the attribute of `Limits` that bounds the entries of a list."""

    name: str
    read: Reader
    attribute: str
    schema: Schema
    text: str
    aliases: tuple[str, ...] = ()
    required: bool = False
    limit: str = ""


class Given(msgspec.Struct, frozen=True, gc=False):
    """A field of a request: `path` is the client's own name for it, and where it stands."""

    field: Field
    path: str
    value: Any

    def read(self, problems: Problems, limits: Limits) -> Any:
        """What it means; what is wrong with it is added."""
        if self.field.limit:
            return self.field.read(self.value, self.path, problems, limit=getattr(limits, self.field.limit))
        return self.field.read(self.value, self.path, problems)


@dataclass(frozen=True, slots=True)
class Table:
    """`names` has aliases too. `refused`: names that are known and not served, with the reason for people."""

    fields: tuple[Field, ...]
    names: Mapping[str, Field]
    refused: Mapping[str, str]

    @classmethod
    def of(cls, table: Sequence[Field], refused: Mapping[str, str]) -> "Table":
        names = {name: field for field in table for name in (field.name, *field.aliases)}
        return cls(tuple(table), names, refused)

    def given(self, document: Mapping[str, Any], problems: Problems, prefix: str = "") -> dict[str, Given]:
        """The fields that stand in an object, by canonical name, in the client's order."""
        found: dict[str, Given] = {}
        suggestions = 0
        for name, value in document.items():
            field = self.names.get(name)
            if field is None:
                if problems.full:
                    break
                suggestions += 1
                self._unknown(name, value, prefix, problems, suggest=suggestions <= MAX_SUGGESTIONS)
            elif fields.absent(value):
                continue
            elif field.name in found:
                other = found[field.name].path.removeprefix(prefix)
                problems.add(prefix + name, f"means the same as {other}: give one of them")
            else:
                found[field.name] = Given(field, prefix + name, value)
        for field in self.fields:
            if field.required and field.name not in found:
                problems.add(prefix + field.name, "is required", "missing_parameter")
        return found

    def schema(self, limits: Limits) -> Schema:
        """The object as JSON Schema: every name that is taken, closed; a name and its alias shut each other out."""
        properties: Schema = {}
        twice = []
        for field in self.fields:
            fragment = _bounded(field.schema, getattr(limits, field.limit)) if field.limit else field.schema
            properties[field.name] = {**fragment, "description": field.text}
            for alias in field.aliases:
                properties[alias] = {**fragment, "description": f"The same as `{field.name}`; give one of them."}
                twice.append({"not": {"required": [field.name, alias]}})
        return {
            "type": "object",
            "properties": properties,
            "required": [field.name for field in self.fields if field.required],
            "additionalProperties": False,
            "allOf": twice,
        }

    def _unknown(self, name: str, value: Any, prefix: str, problems: Problems, *, suggest: bool) -> None:
        reason = self.refused.get(name)
        if reason is not None:
            if not fields.absent(value):
                problems.add(prefix + name, reason, "not_supported")
            return
        near = difflib.get_close_matches(name[:40], (*self.names, *self.refused), n=1) if suggest else []
        hint = f"; did you mean {near[0]}?" if near else ""
        problems.add(prefix + fields.shown(name), f"is not a known field{hint}")


def _bounded(schema: Schema, most: int) -> Schema:
    """The same where every list, alone or among alternatives, has at most so many entries."""
    if schema.get("type") == "array":
        return {**schema, "maxItems": most}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_bounded(one, most) for one in schema["anyOf"]]}
    return schema
