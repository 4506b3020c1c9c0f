"""`local`: the key for mail of this machine's own programs, and the socket that they hand it in at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.config import KeyConfig
from gateway.yamltree import Value

SOCKET_NAME: Final = "submit.sock"
RUN_SOCKET: Final = Path("/run/mail-gateway") / SOCKET_NAME  # the unit's RuntimeDirectory, which every user can reach


def read_local(value: Value, declared: Value | None, keys: Mapping[str, KeyConfig]) -> tuple[str | None, Path | None]:
    """The name of the key (None: nobody may), and the socket. The key is one that is `declared`; `keys` are those that
    could be read."""
    section = value.section()
    place, name = section.get("key"), section.take("key", Value.text, None)
    socket = section.take("socket", _socket, None)
    section.close()
    if place is None or name is None:
        return None, socket
    names = [str(node.value) for node, _ in declared.node.value] if declared is not None and declared.is_mapping else ()
    if name not in names:
        place.problem(f"there is no key {name}")
    if name in keys and keys[name].networks:
        place.problem(f"the key {name} is bound to networks (ip), and a program of this machine has none")
    return name, socket


def read_socket(value: Value) -> Path | None:
    """Only `local.socket`."""
    return value.section().take("socket", _socket, None)


def _socket(value: Value) -> Path | None:
    text = value.text()
    if text is not None and not text.startswith("/"):
        value.problem("must be an absolute path")
        return None
    return Path(text) if text is not None else None
