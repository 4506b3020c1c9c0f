"""cli.md: every command with its arguments, read from the parsers."""

import argparse
from collections.abc import Iterator
from typing import Final, TypeGuard

from docs.generate import markdown
from gateway import cli

_COMMON: Final = ("-h", "-c")  # told once, at the head
_WIDTH: Final = 100
_EXIT_CODES: Final = (
    ("0", "done"),
    ("1", "refused, not found, or not all of it could be done"),
    ("2", "usage"),
    ("3", "`status`: no daemon runs"),
    ("75", "try again later: the store or the daemon is away for now; `status`, `reload`: it starts or stops"),
    ("78", "the configuration cannot be used"),
)


def page() -> str:
    """The page."""
    parser = cli._parser()  # noqa: SLF001 - the very parsers that main() has
    sections = [part for command in _commands(parser) for part in _section(command)]
    return markdown.page(
        "Commands",
        "All but `dev` take `-c FILE` before or after the verb: the configuration, by default `$MAIL_GATEWAY_CONFIG` or"
        " /etc/mail-gateway/gateway.yaml. `-h` explains each. With `--json` the result is JSON for programs."
        " `--version` prints the version.",
        "Exit codes; those of `sendmail` are sysexits.h's ([legacy.md](../legacy.md)), those of `serve` mean more"
        " ([lifecycle.md](../lifecycle.md)):",
        markdown.table(("code", "means"), _EXIT_CODES),
        *sections,
    )


def _commands(parser: argparse.ArgumentParser, told: str = "") -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """The commands that do something, in their order, with what their parent says of them."""
    below = [action for action in parser._actions if _is_below(action)]  # noqa: SLF001 - argparse shows them nowhere else
    if not below or parser.get_default("run") is not None:  # `log` does something with no word after it, too
        yield parser, parser.description or told
    for action in below:
        words = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001 - the same
        for name, command in action.choices.items():
            yield from _commands(command, words.get(name, ""))


def _is_below(action: argparse.Action) -> TypeGuard["argparse._SubParsersAction[argparse.ArgumentParser]"]:
    return isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 - its only name


def _section(command: tuple[argparse.ArgumentParser, str]) -> Iterator[str]:
    parser, told = command
    shown = [
        action
        for action in parser._actions  # noqa: SLF001 - as above
        if action.help != argparse.SUPPRESS and not _is_below(action) and not set(action.option_strings) & set(_COMMON)
    ]
    yield f"## {parser.prog}"
    yield told[:1].upper() + told[1:] + ("" if told.endswith(".") else ".")
    yield "```\n" + _wrapped(parser.prog, [_usage(action) for action in shown]) + "\n```"
    explained = [(_written(action), action.help) for action in shown if action.help and action.dest != "json"]
    if explained:
        yield markdown.table(("argument", "is"), [(markdown.code(name), text) for name, text in explained])


def _wrapped(program: str, words: list[str]) -> str:
    """The usage, in lines of a hundred characters; what belongs together is not parted."""
    lines = [program]
    for word in words:
        if len(lines[-1]) + len(word) < _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return "\n".join(lines)


def _usage(action: argparse.Action) -> str:
    """As in a usage line: `[--limit N]...`, `ID`, `[recipient ...]`."""
    repeated = isinstance(action, argparse._AppendAction)  # noqa: SLF001 - its only name
    if not action.option_strings:
        name = _value(action)
        return {"*": f"[{name} ...]", "+": f"{name} [{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), name)
    text = _written(action)
    return (text if action.required else f"[{text}]") + ("..." if repeated else "")


def _written(action: argparse.Action) -> str:
    if not action.option_strings:
        return _value(action)
    longest = action.option_strings[-1]
    return longest if action.nargs == 0 else f"{longest} {_value(action)}"


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper() if action.option_strings else action.dest
