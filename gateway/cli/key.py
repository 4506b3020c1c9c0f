"""`mail-gateway key`: who may send, which way, and what becomes of it."""

import argparse
import sys
from typing import Any, Final

from gateway.cli import arguments as values
from gateway.cli import connect, output
from gateway.configfile import notifications
from gateway.errors import GatewayError
from gateway.keyterms import Duplicates

_MODES: Final = "live, capture (nothing leaves), hold, redirect:ADDRESS or allow:PATTERN,PATTERN (others are captured)"
_MAX_SECRET: Final = 1024  # characters read from standard input


class SecretError(GatewayError):
    """What standard input holds cannot be a key."""


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "key", parents=[common], help="create, list, show, rotate, release, revoke keys; their mode"
    )
    nouns = parser.add_subparsers(metavar="create|list|show|rotate|mode|release|revoke", required=True)

    create = nouns.add_parser("create", parents=[common], help="create a key; its text is printed once")
    _add_create(create)
    create.set_defaults(run=_create)

    listing = nouns.add_parser("list", parents=[common], help="all keys, without their text")
    output.add_json(listing)
    listing.set_defaults(run=_list)

    rotate = nouns.add_parser("rotate", parents=[common], help="give a key a new text, which is printed once")
    rotate.add_argument("name")
    rotate.add_argument(
        "--overlap",
        type=values.delay,
        metavar="24h",
        help="how long the old text stays good (default: 24h); 0s where strangers have it",
    )
    _add_text(rotate)
    output.add_json(rotate)
    rotate.set_defaults(run=_rotate)

    mode = nouns.add_parser("mode", parents=[common], help="change what becomes of the mail of a key, from now on")
    mode.add_argument("name")
    mode.add_argument("mode", type=values.key_mode, metavar="MODE", help=_MODES)
    output.add_json(mode)
    mode.set_defaults(run=_mode)

    release = nouns.add_parser("release", parents=[common], help="let a key that is braked send again")
    release.add_argument("name")
    release.add_argument("--reason", metavar="TEXT", help="why, for the event")
    release.add_argument("--queued", action="store_true", help="and what of its mail is held")
    output.add_json(release)
    release.set_defaults(run=_release)

    for verb, run, help_ in (
        ("show", _show, "one key, without its text"),
        ("revoke", _revoke, "end a key at once, for good"),
    ):
        one = nouns.add_parser(verb, parents=[common], help=help_)
        one.add_argument("name")
        output.add_json(one)
        one.set_defaults(run=run)


def _add_create(create: argparse.ArgumentParser) -> None:
    create.add_argument("name")
    create.add_argument("--account", metavar="A", help="what separates tenants (default: the key's name)")
    create.add_argument("--route", metavar="R", help="the way its mail goes (default: default_route)")
    create.add_argument(
        "--from",
        dest="senders",
        action="append",
        metavar="PATTERN",
        help="an allowed sender: a@b, *@b, *@*.b",
    )
    create.add_argument(
        "--scope",
        dest="scopes",
        action="append",
        metavar="S",
        help="send, read, manage, admin (default: send, read)",
    )
    create.add_argument("--default-from", metavar="A", help="the From of mail that names none")
    create.add_argument(
        "--expires", type=values.duration, metavar="90d", help="end it after this time (default: never)"
    )
    create.add_argument(
        "--limit",
        dest="limits",
        action="append",
        type=values.limit,
        metavar="SPEC",
        help="how much it may send: requests, messages or recipients =N/s, /min, /hour or /day, and ,burst=N at once "
        "(default: N); such as recipients=100/min,burst=200. May be repeated",
    )
    create.add_argument(
        "--ip",
        dest="networks",
        action="append",
        type=values.network,
        metavar="NET",
        help="where it may be used from: an address or a network, such as 192.168.1.0/24 (default: anywhere). May be "
        "repeated",
    )
    _add_delivery(create)
    _add_treatment(create)
    _add_text(create)
    output.add_json(create)


def _add_delivery(parser: argparse.ArgumentParser) -> None:
    """What becomes of its mail where nobody says otherwise."""
    parser.add_argument(
        "--duplicates",
        choices=list(Duplicates),
        metavar="D",
        help="what becomes of mail whose delivery was cut off: at_least_once tries again, at_most_once fails it "
        "(default: at_least_once)",
    )
    parser.add_argument(
        "--dsn",
        action="append",
        choices=notifications.WORDS,
        metavar="WHEN",
        help="when senders get a delivery status notification if the client does not say: never, or failure, delay and "
        "success (default: failure and delay by SMTP, never by HTTP). May be repeated",
    )


def _add_treatment(parser: argparse.ArgumentParser) -> None:
    """What becomes of its mail whatever anybody says."""
    parser.add_argument("--mode", type=values.key_mode, metavar="M", help=f"{_MODES} (default: live)")
    parser.add_argument(
        "--track",
        type=values.tracks,
        metavar="T",
        help="what is tracked if the client does not say: some of opens,clicks,text, text being the links of plain "
        "text (default: nothing)",
    )
    parser.add_argument(
        "--brake",
        dest="brakes",
        action="append",
        type=values.brake,
        metavar="SPEC",
        help="when its new mail is held: volume=5000/day (recipients), bounces=10%% (of what ended in the last day), "
        "new_recipients=500/day (addresses it never wrote to). May be repeated",
    )
    parser.add_argument(
        "--retention",
        action="append",
        type=values.kept,
        metavar="SPEC",
        help="how long its mail is kept where not as all: delivered=1d, failed=7d (content), messages=30d, events=30d. "
        "May be repeated",
    )


def _add_text(parser: argparse.ArgumentParser) -> None:
    """What the text of a key is made of."""
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--prefix", metavar="P", help="how its text begins (default: mgw_)")
    text.add_argument("--secret-stdin", action="store_true", help="read its text from standard input")
    text.add_argument(
        "--short", action="store_true", help="20 small letters and digits, for devices; the key must be bound by --ip"
    )


def _create(arguments: argparse.Namespace) -> int:
    return _made(
        arguments,
        "key.create",
        {
            "name": arguments.name,
            "account": arguments.account,
            "route": arguments.route,
            "senders": arguments.senders,
            "scopes": arguments.scopes,
            "default_from": arguments.default_from,
            "expires_s": arguments.expires,
            "limits": arguments.limits,
            "networks": arguments.networks,
            "duplicates": arguments.duplicates,
            "dsn": arguments.dsn,
            "mode": arguments.mode,
            "track": arguments.track,
            "brakes": arguments.brakes,
            "retention": arguments.retention,
        },
    )


def _rotate(arguments: argparse.Namespace) -> int:
    return _made(arguments, "key.rotate", {"name": arguments.name, "overlap_s": arguments.overlap})


def _made(arguments: argparse.Namespace, action: str, args: dict[str, Any]) -> int:
    """Do what gives a key a text, and print that once."""
    secret = _read_secret() if arguments.secret_stdin else None
    text = {"prefix": arguments.prefix, "short": arguments.short, "secret": secret}
    result = connect.Desk(arguments).act(action, args | text)
    if secret is not None:
        del result["secret"]  # who gave it knows it

    def people(key: Any) -> None:
        _print_key(key)
        if "secret" in key:
            print(
                f"\nkey: {key['secret']}\n"
                "(shown this once; use it as Bearer token, and as SMTP password with any user name)"
            )

    return output.emit(arguments, result, people)


def _list(arguments: argparse.Namespace) -> int:
    def people(keys: Any) -> None:
        output.table(
            [
                "NAME",
                "STATE",
                "ACCOUNT",
                "ROUTE",
                "FROM",
                "SCOPES",
                "LIMITS",
                "IP",
                "DUPLICATES",
                "DSN",
                "MODE",
                "KEY",
                "EXPIRES",
                "SOURCE",
            ],
            [
                [
                    key["name"],
                    _state(key),
                    key["account"],
                    key["route"] or "(default)",
                    key["from"],
                    key["scopes"],
                    _limits(key),
                    key["networks"],
                    key["duplicates"],
                    _dsn(key),
                    key["mode"],
                    key["hint"],
                    key["expires_at"] or "never",
                    key["source"],
                ]
                for key in keys
            ],
            empty="There is no key yet: mail-gateway key create NAME",
        )

    return output.emit(arguments, connect.Desk(arguments).act("key.list", {}), people)


def _show(arguments: argparse.Namespace) -> int:
    result = connect.Desk(arguments).act("key.show", {"name": arguments.name})
    return output.emit(arguments, result, _print_key)


def _mode(arguments: argparse.Namespace) -> int:
    result = connect.Desk(arguments).act("key.mode", {"name": arguments.name, "mode": arguments.mode})
    return output.emit(
        arguments, result, lambda key: print(f"The key {key['name']} has the mode {key['mode']} from now on.")
    )


def _release(arguments: argparse.Namespace) -> int:
    desk, name = connect.Desk(arguments), arguments.name
    result = desk.act("key.release", {"name": name, "reason": arguments.reason})
    if arguments.queued:
        result["queued"] = desk.act("queue.release", {"key": name, "reason": arguments.reason})

    def people(key: Any) -> None:
        print(f"New mail of the key {name} goes again (it was braked: {key['was']['detail']}).")
        if arguments.queued:
            print(f"Recipients released: {key['queued']['released']}.")
        else:
            print(f"What was held stays held; to let it go: mail-gateway queue release --key {name}")

    return output.emit(arguments, result, people)


def _revoke(arguments: argparse.Namespace) -> int:
    result = connect.Desk(arguments).act("key.revoke", {"name": arguments.name})
    return output.emit(arguments, result, lambda key: print(f"The key {key['name']} is revoked."))


def _read_secret() -> str:
    """The key's text from standard input: its first line."""
    try:
        secret = sys.stdin.readline(_MAX_SECRET).strip()
    except UnicodeDecodeError as error:
        raise SecretError("what standard input holds is not text") from error
    if not secret:
        raise SecretError("standard input holds no key: give it as one line")
    return secret


def _print_key(key: Any) -> None:
    output.fields(
        [
            ("name", key["name"]),
            ("state", _state(key)),
            ("account", key["account"]),
            ("route", key["route"] or "(default_route)"),
            ("from", key["from"]),
            ("scopes", key["scopes"]),
            ("limits", _limits(key)),
            ("ip", key["networks"]),
            ("duplicates", key["duplicates"]),
            ("dsn", _dsn(key)),
            ("mode", key["mode"]),
            ("track", " ".join(key["track"]) or "nothing"),
            ("brakes", _brakes(key)),
            ("retention", " ".join(key["retention"]) or "(as all)"),
            ("key", key["hint"]),
            ("default from", key["default_from"]),
            ("expires", key["expires_at"] or "never"),
            ("old key ends", key["old_until"]),
            ("created", key["created_at"]),
            ("source", key["source"]),
        ]
    )


def _state(key: Any) -> str:
    notes = (" (rotating)" if key["old_until"] else "", " (braked)" if key.get("braked") else "")
    return f"{key['state']}{''.join(notes)}"


def _brakes(key: Any) -> str:
    """And why they hold its mail now."""
    trip = key.get("braked")
    held = f"; held since {trip['since']}: {trip['detail']}" if trip else ""
    return (" ".join(key["brakes"]) or "none") + held


def _limits(key: Any) -> str:
    """As `--limit` takes them."""
    return " ".join(key["limits"]) or "none"


def _dsn(key: Any) -> str:
    return " ".join(key["dsn"] or ()) or "(default)"
