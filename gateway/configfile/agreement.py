"""What only shows when the whole file is read: domains that mean two things, defaults that need something else.

Guarantees: the domains that mail is sent from, those that bounces come back to and that of the simulator are apart.
"""

from collections.abc import Iterator

from gateway.config import Config
from gateway.errors import Problem
from gateway.yamltree import Findings, Section, Value


def check(top: Section, config: Config) -> None:
    """Problems and warnings go to the findings, each at its own key."""
    _check_return_paths(top, config)
    _check_simulator(top, config)
    _check_tracking(top, config)
    _warn_of_undeclared_keys(top, config)


def _check_return_paths(top: Section, config: Config) -> None:
    for name, place in _of_each(top, "domains", "return_path"):
        return_path = config.domains[name].return_path
        if return_path is not None and "." not in return_path:
            place.problem(f"{return_path} is no full domain: many hosts refuse such senders; like bounces.{name}")
        elif return_path in config.domains:
            place.problem(
                f"{return_path} is a domain that mail is sent from: bounces need one of their own, like "
                f"bounces.{return_path}"
            )


def _check_simulator(top: Section, config: Config) -> None:
    place = top.get("simulator")
    if place is None or config.simulator is None:
        return
    if "." not in config.simulator:
        place.problem(f"{config.simulator} is no full domain: the simulator needs one, like simulator.test")
    elif config.simulator in config.domains:
        place.problem(f"mail is sent from {config.simulator}: the simulator needs a domain of its own")
    elif any(config.simulator == domain.return_path for domain in config.domains.values()):
        place.problem(f"bounces come back to {config.simulator}: the simulator needs a domain of its own")


def _check_tracking(top: Section, config: Config) -> None:
    http = top.get("http")
    if http is not None and _entries(http).get("public_url") is not None:  # if only it could be read
        return
    for name, place in _of_each(top, "keys", "track"):
        if name in config.keys and config.keys[name].track:
            place.problem("recipients could not reach us: tracking needs http.public_url")


def _of_each(top: Section, section: str, name: str) -> Iterator[tuple[str, Value]]:
    """The value of one key in each entry of a section of names."""
    value = top.get(section)
    if value is None:
        return
    for entry, child in _entries(value).items():
        place = _entries(child).get(name)
        if place is not None:
            yield entry, Value(place.node, place.path, top.value.findings, place.line)


def _entries(value: Value) -> dict[str, Value]:
    """What stands in a mapping; what is wrong with it was said when it was read."""
    given = dict(Value(value.node, value.path, Findings(), value.line).section().rest())
    return {name: child for name, child in given.items() if not child.is_null}


def _warn_of_undeclared_keys(top: Section, config: Config) -> None:
    """A key of `networks` may be in the store: no problem, but worth a look."""
    place = top.get("smtp") or top.value
    for number, listener in enumerate(config.smtp.listeners):
        for network, key in listener.networks:
            if key not in config.keys:
                text = f"{network}: the key {key} is not declared here; until it is in the store, nobody there can send"
                path = f"smtp.listeners[{number}].networks"
                top.value.findings.warnings.append(Problem(path, text, line=place.line))
