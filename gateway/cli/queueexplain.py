"""`mail-gateway queue explain ID`: why a message waits, and what its next attempt would do."""

import argparse
from typing import Any, Final

from gateway.cli import connect, output, queuetable

_HEAD: Final = ("id", "key", "account", "envelope_sender", "from", "subject", "created_at", "expires_at")


def register(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser("explain", parents=[common], help="why a message waits, and what its next try would do")
    parser.add_argument("id")
    output.add_json(parser)
    parser.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    return output.emit(arguments, connect.Desk(arguments).act("queue.explain", {"id": arguments.id}), _people)


def _people(message: Any) -> None:
    output.fields([(name.replace("_", " "), message[name]) for name in _HEAD])
    if message["tls_wish"]:
        _line("TLS", f"{message['tls_wish']}")
    if not message["daemon"]:
        print("\nNo daemon runs: nothing is tried until it does, and who answers it cannot be told.")
    if message["final"]:
        words = "recipient has its result" if message["final"] == 1 else "recipients have their results"
        print(f"\n{message['final']} {words} already: mail-gateway queue show {message['id']}")
    used = message["connections"]
    if used and used["open"] >= used["most"]:
        print(f"\nAll {used['most']} connections (delivery.connections) are open: who comes next waits for one.")
    for recipient in message["recipients"]:
        _print_recipient(recipient)
    for number, way in enumerate(message["ways"], 1):
        _print_way(number, way)


def _print_recipient(one: Any) -> None:
    print(f"\n{output.clean(one['to'])}: {one['state']}")
    _line("why", one["why"])
    _line("blocked by", queuetable.blocked(one))
    _line("next attempt", one["next_attempt_at"] or "when an operator says so")
    _line("given up", one["expires_at"])
    _line("tries so far", one["attempts"])
    if one["last_reply"]:
        _line("last reply", one["last_reply"])
        _line("said by", f"{one['host'] or 'this gateway'}{_part(' at ', one['stage'])}")
        _line("means", f"{one['class'] or 'nothing known'}{_part(', whose fault: ', one['scope'])}")
    if one["advice"]:
        _line("what to do", one["advice"])
    if one["possible_duplicate"]:
        _line("beware", "it may have been delivered already")
    _line("way", "not looked up: the message has very many" if one["way"] is None else f"number {one['way'] + 1} below")


def _print_way(number: int, way: Any) -> None:
    kind = f" ({way['type']})" if way["type"] else ""
    print()
    print(output.clean(f"Way {number}: route {way['route']}{kind}{_part(', to ', way['domain'])}"))
    if way["problem"]:
        _line("no host now", way["problem"])
    if way["type"] == "capture":
        _line("hosts", "none: it is captured, nothing leaves this machine")
    for host in way["hosts"]:
        _print_host(host)
    if way["signature"]:
        _line("signature", _signature(way["signature"]))
    if way["unreachable"]:
        told = way["unreachable"]
        _line("nobody answered", f"{told['reply']}; next try in {told['next_try_in_s']} s")
    if way["lane"]:
        _line("being delivered", _lane(way["lane"]))


def _print_host(host: Any) -> None:
    source = _part(", from ", host["source"])
    login = ", with login" if host["login"] else ""
    _line("host", f"{host['host']} [{host['address']}]:{host['port']}{source}{login}")
    demands = "".join(
        (
            _part(f" {host['min_tls']} or newer, " if host["min_tls"] else " ", host["tls"]),
            _part("; certificate: ", host["proof"]),
            _part("; demanded by ", host["policy"]),
            _part("; ", host["note"]),
        )
    )
    _line("  TLS", demands.strip())


def _signature(signature: Any) -> str:
    if signature["why_not"]:
        return f"none: {signature['why_not']}"
    return f"d={signature['domain']}, s={' and '.join(signature['selectors'])}"


def _lane(lane: Any) -> str:
    slowed = ", fewer than usual because the host said it is too much" if lane["slowed"] else ""
    silent = "" if lane["answers"] else "; it has not answered lately"
    recipients = output.count(lane["in_hand"], "recipient")
    return f"{recipients} in hand, {lane['connections']} of {lane['width']} connections in use{slowed}{silent}"


def _part(before: str, value: Any) -> str:
    return f"{before}{value}" if value else ""


def _line(name: str, value: Any) -> None:
    print(f"  {name + ':':<16} {output.clean(str(value))}")
