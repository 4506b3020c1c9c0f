"""`mail-gateway domain`: the domains we sign for, and the DNS records they need."""

import argparse
from typing import Any, Final

from gateway.cli import connect, output

_UNHEARD: Final = "no listener takes what comes back: one of smtp.listeners needs role: return_path"
_RELAYS: Final = "mail that goes by a relay needs that relay's include: in the SPF record, too"


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("domain", parents=[common], help="add, list, check, rotate, remove sending domains")
    nouns = parser.add_subparsers(metavar="add|list|check|zone|rotate|remove", required=True)

    add = nouns.add_parser("add", parents=[common], help="make DKIM keys for a domain and print their DNS records")
    add.add_argument("name")
    add.add_argument("--selector", metavar="S", help="the DKIM selector (default: mgw1)")
    add.add_argument(
        "--ed25519",
        action="store_true",
        help="an Ed25519 key too, for routes with dkim: rsa+ed25519; a domain that is known gets it beside its RSA key",
    )
    add.add_argument("--require-dkim", action="store_true", help="refuse mail of this domain that cannot be signed")
    add.add_argument(
        "--return-path",
        metavar="DOMAIN",
        help="where bounces come back to, as bounces.example.com; one that is known gets it, too (none: no longer)",
    )
    output.add_json(add)
    add.set_defaults(run=_add)

    listing = nouns.add_parser("list", parents=[common], help="all domains")
    output.add_json(listing)
    listing.set_defaults(run=_list)

    check = nouns.add_parser("check", parents=[common], help="the DNS records of a domain, and whether DNS shows them")
    check.add_argument("name")
    output.add_json(check)
    check.set_defaults(run=_check)

    zone = nouns.add_parser("zone", parents=[common], help="the DNS records of a domain, as lines of a zone file")
    zone.add_argument("name")
    output.add_json(zone)
    zone.set_defaults(run=_zone)

    rotate = nouns.add_parser(
        "rotate",
        parents=[common],
        help="make the next DKIM keys; they are used once DNS shows their records. Again: look now",
    )
    rotate.add_argument("name")
    rotate.add_argument("--selector", metavar="S", help="of the next key (default: the present one, counted up)")
    rotate.add_argument("--now", action="store_true", help="sign with the next keys whatever DNS shows")
    output.add_json(rotate)
    rotate.set_defaults(run=_rotate)

    remove = nouns.add_parser("remove", parents=[common], help="forget a domain and its keys; its mail goes unsigned")
    remove.add_argument("name")
    output.add_json(remove)
    remove.set_defaults(run=_remove)


def _add(arguments: argparse.Namespace) -> int:
    result = connect.Desk(arguments).act(
        "domain.add",
        {
            "name": arguments.name,
            "selector": arguments.selector,
            "require_dkim": arguments.require_dkim,
            "ed25519": arguments.ed25519,
            "return_path": arguments.return_path,
        },
    )
    return output.emit(arguments, result, _print_added)


def _print_added(domain: Any) -> None:
    print(f"{domain['name']} is signed with the selector {domain['selector']} from now on.")
    if (second := domain["ed25519"]) is not None:
        print(f"Routes with dkim: rsa+ed25519 sign with the selector {second['selector']} too.")
    records = _records(domain)
    print(
        "Publish this record (zone file form):\n" if len(records) == 1 else "Publish both records (zone file form):\n"
    )
    for record in records:
        print(record["zone"])
    print("\nor, in a form with one field:")
    for record in records:
        print(f"  name:  {record['dns_name']}\n  type:  TXT\n  value: {record['dns_value']}")
    if domain["return_path"] is not None:
        print(f"\nBounces come back to {domain['return_path']}; its records: mail-gateway domain zone {domain['name']}")


def _records(domain: Any) -> list[Any]:
    """One for each key that signs: the domain itself describes its RSA key."""
    return [record for record in (domain, domain["ed25519"]) if record is not None and record["selector"] is not None]


def _list(arguments: argparse.Namespace) -> int:
    def people(domains: Any) -> None:
        output.table(
            ["DOMAIN", "SELECTOR", "REQUIRE DKIM", "RETURN PATH", "SOURCE", "DNS NAME"],
            [
                [
                    one["name"],
                    _each(one, "selector"),
                    one["require_dkim"],
                    one["return_path"],
                    one["source"],
                    _each(one, "dns_name"),
                ]
                for one in domains
            ],
            empty="There is no domain yet: mail-gateway domain add example.com",
        )

    return output.emit(arguments, connect.Desk(arguments).act("domain.list", {}), people)


def _each(domain: Any, field: str) -> str:
    return ", ".join(record[field] for record in _records(domain))


def _check(arguments: argparse.Namespace) -> int:
    result = connect.Desk(arguments).act("domain.check", {"name": arguments.name})
    return output.emit(arguments, result, _print_checked)


def _print_checked(domain: Any) -> None:
    return_path = domain["return_path"]
    if domain["keys"] or return_path is None:
        _print_keys(domain)
    if return_path is None:
        return
    if domain["keys"]:
        print()
    rows = [[one["name"], one["type"], one["value"], one["published"]] for one in return_path["records"]]
    output.table(["RETURN PATH", "TYPE", "VALUE", "IN DNS"], rows, empty="")
    if not return_path["heard"]:
        print(_UNHEARD)


def _zone(arguments: argparse.Namespace) -> int:
    return output.emit(arguments, connect.Desk(arguments).act("domain.zone", {"name": arguments.name}), _print_zone)


def _print_zone(domain: Any) -> None:
    for line in domain["zone"]:
        print(line)
    if not domain["zone"]:
        output.complain(f"the domain {domain['name']} needs no records of ours: it has neither key nor return path")
    if domain["return_path"] is not None:
        output.complain(_RELAYS)
    if not domain["heard"]:
        output.complain(_UNHEARD)


def _rotate(arguments: argparse.Namespace) -> int:
    wanted = {"name": arguments.name, "selector": arguments.selector, "now": arguments.now}
    return output.emit(arguments, connect.Desk(arguments).act("domain.rotate", wanted), _print_rotated)


def _print_rotated(domain: Any) -> None:
    _print_keys(domain)
    waiting = [key for key in domain["keys"] if key["state"] == "next"]
    if not waiting:
        print(f"\n{domain['name']} is signed with its new keys. Leave the old records for a week.")
        return
    print("\nPublish, and leave the old records where they are:\n")
    for key in waiting:
        print(key["zone"])
    print("\nThe daemon looks every ten minutes and signs with a key once its record is there; this command looks now.")


def _print_keys(domain: Any) -> None:
    output.table(
        ["SELECTOR", "ALGORITHM", "STATE", "IN DNS", "RECORD NEEDED UNTIL"],
        [
            [key["selector"], key["algorithm"], key["state"], key["published"], key["kept_until"] or "-"]
            for key in domain["keys"]
        ],
        empty=f"The domain {domain['name']} has no key.",
    )


def _remove(arguments: argparse.Namespace) -> int:
    result = connect.Desk(arguments).act("domain.remove", {"name": arguments.name})
    return output.emit(arguments, result, _print_removed)


def _print_removed(domain: Any) -> None:
    print(f"The domain {domain['name']} is removed: its mail goes unsigned. Its DNS records can go in a few days.")
