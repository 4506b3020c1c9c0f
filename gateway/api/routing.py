"""Which operation of which dialect serves a path, and in whose shape its errors are told.

Guarantees: dialects do not collide (two operations on one method and path are a mistake that ends the start); a path
that nobody serves is refused in the shape of the dialect that owns its beginning, else in the native one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.api.dialect import Dialect, Serve

_VARIABLE: Final = "/{}"


@dataclass(frozen=True, slots=True)
class Place:
    """A path that is served: its methods, the variable segment of this request, and the path with {} in its place."""

    dialect: Dialect
    methods: Mapping[str, Serve]
    argument: str = ""
    path: str = ""


@dataclass(slots=True)
class Routes:
    """The paths of all dialects. Those of a foreign one are also under `/<its name>`."""

    native: Dialect
    _exact: dict[str, tuple[Dialect, dict[str, Serve]]] = field(default_factory=dict)
    # With {} as the last segment, by what is before it; as the one before the last, by both its sides.
    _prefixes: dict[str, tuple[Dialect, dict[str, Serve]]] = field(default_factory=dict)
    _around: dict[str, tuple[Dialect, dict[str, Serve]]] = field(default_factory=dict)
    _owners: list[tuple[str, Dialect]] = field(default_factory=list)

    @classmethod
    def of(cls, native: Dialect, foreign: Iterable[Dialect]) -> "Routes":
        routes = cls(native)
        routes._add(native, "")
        for dialect in foreign:
            routes._add(dialect, "")
            routes._add(dialect, f"/{dialect.name}")
        routes._owners.sort(key=lambda owner: -len(owner[0]))  # the longest beginning decides
        return routes

    def _add(self, dialect: Dialect, mount: str) -> None:
        for operation in dialect.operations:
            if mount and operation.path.startswith(f"{mount}/"):
                continue  # it has no other place
            path = mount + operation.path
            table, path = self._table(path)
            owner, methods = table.setdefault(path, (dialect, {}))
            if owner is not dialect or operation.method in methods:
                raise ValueError(f"{operation.method} {path} is served by {owner.name} and by {dialect.name}")
            methods[operation.method] = operation.serve
        self._owners += [(f"{mount}{beginning}", dialect) for beginning in dialect.owns]
        if mount:
            self._owners.append((f"{mount}/", dialect))

    def _table(self, path: str) -> tuple[dict[str, tuple[Dialect, dict[str, Serve]]], str]:
        """Where a path is kept, and by which name."""
        if path.endswith(_VARIABLE):
            return self._prefixes, path.removesuffix("{}")
        return (self._around if f"{_VARIABLE}/" in path else self._exact), path

    def find(self, path: str) -> Place | None:
        """Who serves this path, None where nobody does."""
        exact = self._exact.get(path)
        if exact is not None:
            return Place(*exact, path=path)
        beginning, slash, argument = path.rpartition("/")
        if argument:
            found = self._prefixes.get(beginning + slash)
            if found is not None:
                return Place(*found, argument, f"{beginning}{_VARIABLE}")
            beginning, _, middle = beginning.rpartition("/")
            around = f"{beginning}{_VARIABLE}/{argument}"
            found = self._around.get(around) if middle else None
            if found is not None:
                return Place(*found, middle, around)
        return None

    def owner(self, path: str) -> Dialect:
        """In whose shape errors at this path are told."""
        return next((dialect for beginning, dialect in self._owners if path.startswith(beginning)), self.native)
