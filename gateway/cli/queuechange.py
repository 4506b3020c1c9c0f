"""The verbs of `queue` that change it: retry, hold, release, cancel, bounce, redirect, suspend, resume."""

import argparse
import shlex
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gateway.cli import arguments as values
from gateway.cli import connect, output, queuetable


class _Verb(NamedTuple):
    """A verb over recipients: its help, the key of its answer, and both in words."""

    name: str
    help: str
    done: str
    happened: str  # "3 recipients …"
    would: str


_LISTED: Final = "change nothing: count and list the first 25"
_SUSPENDED_BY: Final = ("key", "route", "domain")  # what of the filter a suspension may have
_VERBS: Final = (
    _Verb("retry", "try waiting recipients now", "retried", "due now", "would be tried now"),
    _Verb("hold", "keep recipients until they are released", "held", "held", "would be held"),
    _Verb("release", "let go of what is held", "released", "released", "would be released"),
    _Verb("cancel", "give recipients up and tell nobody", "cancelled", "cancelled", "would be cancelled"),
    _Verb("bounce", "give recipients up and tell the sender", "bounced", "bounced", "would be bounced"),
    _Verb("redirect", "send to another route or another address", "redirected", "redirected", "would be redirected"),
)


def register(nouns: Any, common: argparse.ArgumentParser) -> None:
    for verb in _VERBS:
        parser = nouns.add_parser(verb.name, parents=[common], help=verb.help)
        queuetable.add_filter(parser)
        queuetable.add_limit(parser, None, "all that match")
        if verb.name == "redirect":
            parser.add_argument("--new-route", metavar="ROUTE", help="by this route from now on")
            parser.add_argument("--new-address", metavar="ADDRESS", help="to this address from now on")
        if verb.name != "retry":
            _add_reason(parser, "the reply that the sender is told" if verb.name == "bounce" else "for the events")
        _add_change(parser, "everything, where no filter is given", _LISTED)
        parser.set_defaults(run=_changer(verb))

    suspend = nouns.add_parser("suspend", parents=[common], help="try nothing of a route, domain or key until resumed")
    queuetable.add_filter(suspend, shown=_SUSPENDED_BY)
    _add_reason(suspend, "for the summary and the log")
    suspend.add_argument("--for", dest="for_s", type=values.duration, metavar="2h", help="ends by itself after this")
    _add_change(suspend, "everything", _LISTED)
    suspend.set_defaults(run=_suspend, limit=None)

    resume = nouns.add_parser("resume", parents=[common], help="end suspensions")
    resume.add_argument("numbers", nargs="*", type=values.at_least_one, metavar="NUMBER", help="those of the summary")
    queuetable.add_filter(resume, shown=_SUSPENDED_BY)
    _add_change(resume, "every suspension", "change nothing: list the suspensions that would end")
    resume.set_defaults(run=_resume, limit=None)


def _add_reason(parser: argparse.ArgumentParser, use: str) -> None:
    parser.add_argument("--reason", metavar="TEXT", help=f"why: {use}")


def _add_change(parser: argparse.ArgumentParser, everything: str, dry_run: str) -> None:
    parser.add_argument("--all", action="store_true", help=everything)
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    output.add_json(parser)


def _changer(verb: _Verb) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        args = queuetable.filter_of(arguments) | {"all": arguments.all, "dry_run": arguments.dry_run}
        for name in ("reason", "new_route", "new_address"):
            args[name] = getattr(arguments, name, None)
        result = connect.Desk(arguments).act(f"queue.{verb.name}", args)

        def people(result: Any) -> None:
            _print(verb, result, dry_run=arguments.dry_run)
            if result.get("waiting"):
                print(f"Those that wait for their next try still do ({result['waiting']}): {_retry(arguments)}")

        return output.emit(arguments, result, people)

    return run


def _retry(arguments: argparse.Namespace) -> str:
    """The command that tries at once what was redirected."""
    which = {name: getattr(arguments, name) for name in ("id", "key", "account", "route", "domain", "to")}
    which["route"] = arguments.new_route or which["route"]
    if arguments.new_address:
        which |= {"to": arguments.new_address, "domain": None}
    words = [word for name, value in which.items() if value for word in (f"--{name}", value)]
    return output.clean(shlex.join(["mail-gateway", "queue", "retry", *words]))


def _print(verb: _Verb, result: Any, *, dry_run: bool) -> None:
    if dry_run:
        number = result[f"would_{verb.name}"]
        noun = "waiting recipient" if verb.name == "retry" else "recipient"
        words = f"{'at least ' if result['more'] else ''}{output.count(number, noun)} {verb.would}"
    else:
        words = f"{output.count(result[verb.done], 'recipient')} {verb.happened}"
    hands = result["in_hand"]
    left = "would be left alone" if dry_run else f"{'was' if hands == 1 else 'were'} left alone"
    in_hand = f"; {hands} in hand {left}" if hands else ""
    print(f"{words}{in_hand}.")
    if result.get("suspensions"):
        print("Beware: something is suspended, and stays so (mail-gateway queue summary).")
    if dry_run and result["first"]:
        print()
        queuetable.print_rows(result["first"])


def _suspend(arguments: argparse.Namespace) -> int:
    args = queuetable.filter_of(arguments) | {"all": arguments.all, "dry_run": arguments.dry_run}
    args |= {"reason": arguments.reason, "for_s": arguments.for_s}
    result = connect.Desk(arguments).act("queue.suspend", args)

    def people(result: Any) -> None:
        if arguments.dry_run:
            at_least = "at least " if result["more"] else ""
            print(f"{at_least}{output.count(result['would_suspend'], 'recipient')} would be kept back.")
        else:
            made = result["suspended"]
            end = f"until {made['until']}" if made["until"] else f"until: mail-gateway queue resume {made['number']}"
            print(f"Suspended as number {made['number']}, {end}. What is in hand goes on.")
        for note in result["notes"]:
            print(output.clean(note))
        if arguments.dry_run and result["first"]:
            print()
            queuetable.print_rows(result["first"])

    return output.emit(arguments, result, people)


def _resume(arguments: argparse.Namespace) -> int:
    args = queuetable.filter_of(arguments) | {"all": arguments.all, "dry_run": arguments.dry_run}
    result = connect.Desk(arguments).act("queue.resume", args | {"numbers": arguments.numbers})

    def people(result: Any) -> None:
        if arguments.dry_run:
            print(f"{output.count(result['would_resume'], 'suspension')} would end.")
        else:
            print(f"{output.count(result['resumed'], 'suspension')} ended.")
        if result["suspensions"]:
            print()
            queuetable.print_suspensions(result["suspensions"])

    return output.emit(arguments, result, people)
