"""The configuration as it is in force: every value, defaults too, secrets masked."""

import dataclasses
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from gateway.config import Config, Listen, Secret


def show(config: Config) -> str:
    """YAML of the whole tree."""
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    match value:
        case Secret() | Listen():
            return str(value)
        case Enum():
            return str(value.value)
        case Path():
            return str(value)
        case Mapping():
            return {str(key): _plain(child) for key, child in value.items()}
        case tuple() | list():
            return [_plain(child) for child in value]
        case str() | int() | float() | None:
            return value
        case _ if dataclasses.is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value)
