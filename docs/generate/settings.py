"""config.md: every key of the configuration. Names are what the reader asks for, defaults what it makes of an empty
file; the meanings are in settingswords.py."""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from docs.generate import markdown, reloading
from docs.generate.settingswords import WORDS, Setting
from gateway import config as tree
from gateway import effective, yamltree
from gateway.configfile.document import read_document
from gateway.configfile.sources import Sources

_SECRETS: Final = (".secret", ".password")  # given in one of several ways
# Every section at least once; what it points at need not be there.
_SAMPLE: Final = """
tls: {}
store: {}
http: {listeners: [{}]}
smtp: {listeners: [{networks: {}}]}
limits: {backlog: {}}
dns: {}
routes: {mx: {type: mx, certificate: {}}, relay: {type: relay, password: {}, certificate: {}}, capture: {type: capture}}
domains: {example.com: {dkim: [{}]}}
keys: {NAME: {secret: {}, limits: [{}], track: {}, brakes: {}, retention: {content: {}}}}
local: {}
delivery: {concurrency: {}, timeouts: {}}
retention: {content: {}}
suppression: {}
webhooks: {}
pass_through: {}
dialects: {sendmux: {}}
log: {}
"""


def page() -> str:
    """The page."""
    known = {path for path, later in read().items() if not later}
    if missing := known - {setting.path for setting in WORDS}:
        raise LookupError(f"docs/generate/settingswords.py does not explain {', '.join(sorted(missing))}")
    if gone := {setting.path for setting in WORDS} - known:
        raise LookupError(f"docs/generate/settingswords.py explains what is not there: {', '.join(sorted(gone))}")
    return markdown.page(
        "Configuration",
        "Every key of /etc/mail-gateway/gateway.yaml. [etc/gateway.yaml](../../etc/gateway.yaml) has them with their"
        " defaults and examples; `mail-gateway check` names every problem of a file; `mail-gateway config show"
        " --effective` prints what is in force. NAME stands for a name that you choose, `[]` for each entry of a list.",
        "Sizes are `512KB`, `35MB`, `1GB` (decimal), durations `30s`, `5m`, `4h`, `5d`, rates `10/s`, `100/min`,"
        " `1000/hour`, `10000/day`. A secret is `{env: NAME}`, `{file: PATH}`, `{credential: NAME}` or, with a warning,"
        " the text itself; files with secrets must not be readable by others. Paths are absolute, or relative to"
        " `data_dir`.",
        "What stands under reload is what `mail-gateway reload` (SIGHUP) does with a change: applies it, or says"
        " that it needs a restart ([lifecycle.md](../lifecycle.md)).",
        *(part for head in dict.fromkeys(map(_head, WORDS)) for part in _section(head)),
    )


def read() -> dict[str, bool]:
    """Every key with a value of its own, and whether this version refuses it ("later")."""
    asked: dict[str, bool] = {}
    with _recorded(asked):
        findings = yamltree.Findings()
        root = yamltree.read(_SAMPLE, findings)
        assert root is not None
        read_document(root, Sources(Path("gateway.yaml"), {}, findings))
    found = {_general(path): later for path, later in asked.items()}
    return {path: found[path] for path in found if _is_value(path, found)}


def _is_value(path: str, found: Collection[str]) -> bool:
    """Not a section: nothing is below it, but for the ways to give a secret."""
    if path.rpartition(".")[0].endswith(_SECRETS):
        return False
    return path.endswith(_SECRETS) or not any(other.startswith((f"{path}.", f"{path}[")) for other in found)


@contextmanager
def _recorded(asked: dict[str, bool]) -> Iterator[None]:
    """While it lasts, sections note what they are asked for."""
    get, later = yamltree.Section.get, yamltree.Section.later

    def noted(section: yamltree.Section, name: str) -> yamltree.Value | None:
        asked.setdefault(_path(section, name), False)
        return get(section, name)

    def refused(section: yamltree.Section, *names: str) -> None:
        asked.update(dict.fromkeys((_path(section, name) for name in names), True))
        later(section, *names)

    original = dict(vars(yamltree.Section))
    replaced: dict[str, Callable[..., Any]] = {"get": noted, "later": refused}
    for name, method in replaced.items():
        setattr(yamltree.Section, name, method)
    try:
        yield
    finally:
        for name in replaced:
            setattr(yamltree.Section, name, original[name])


def _path(section: yamltree.Section, name: str) -> str:
    return f"{section.value.path}.{name}" if section.value.path else name


def _general(path: str) -> str:
    """`keys.NAME.limits[].burst`: a path without the sample's own names. A route's type stands for its name."""
    return path.replace("domains.example.com", "domains.NAME").replace("[0]", "[]")


def _head(setting: Setting) -> str:
    """What a table is about: a top-level key, or a type of route."""
    names = re.split(r"[.\[]", setting.path)
    if len(names) == 1:
        return "The instance"
    return f"routes of type {names[1]}" if names[0] == "routes" else names[0]


def _section(head: str) -> Iterator[str]:
    yield f"## {head}"
    reloaded = reloading.words()
    yield markdown.table(
        ("key", "form", "default", "reload", "means"),
        [
            (markdown.code(_shown(one.path)), one.form, _default(one), reloading.of(one.path, reloaded), one.means)
            for one in WORDS
            if _head(one) == head
        ],
    )


def _shown(path: str) -> str:
    return re.sub(r"^routes\.\w+", "routes.NAME", path)


def _default(setting: Setting) -> str:
    if setting.default is not None:
        return setting.default
    value = _defaults().get(setting.path)
    return "" if value is None else markdown.code(str(value))


@cache
def _defaults() -> dict[str, Any]:
    """Every default by its path, as the file would say it."""
    secret = tree.Secret("")
    shown = yaml.safe_load(
        effective.show(
            tree.Config(
                hostname="",
                routes={
                    "mx": tree.MxRoute("mx"),
                    "relay": tree.RelayRoute("relay", host="", port=587),
                },
                domains={"NAME": tree.Domain("NAME")},
                keys={"NAME": tree.KeyConfig("NAME", secret=secret, account="")},
            )
        )
    )
    return dict(_flat("", shown))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, child in value.items():
            yield from _flat(f"{path}.{name}" if path else str(name), child)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from _flat(f"{path}[]", value[0])
    elif isinstance(value, list):
        yield path, yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
    elif isinstance(value, bool):
        yield path, str(value).lower()
    else:
        yield path, value
