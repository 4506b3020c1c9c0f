"""The command line: one file per noun. Parses, asks the daemon (or opens the store itself), prints.

Exit codes: 0 done, 1 refused or not found, 2 usage, 75 try again later, 78 the configuration cannot be used; those of
`sendmail` are sysexits.h's (sendmail.py).
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import gateway
from gateway.cli import (
    check,
    connect,
    domain,
    erase,
    key,
    log,
    output,
    queue,
    running,
    send,
    sendmail,
    serve,
    suppression,
    template,
    upkeep,
    webhook,
)
from gateway.config import default_path
from gateway.errors import ConfigError, GatewayError, StoreError
from gateway.store.db import NewerSchema

EXIT_REFUSED = 1
EXIT_TRY_LATER = 75  # EX_TEMPFAIL
EXIT_CONFIG = 78  # EX_CONFIG
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Run one command (without the program's name); returns its exit code."""
    output.prepare(sys.stdout, sys.stderr)
    parser = _parser()
    for argument in argv:
        if not argument.isascii() and any("\ud800" <= c <= "\udfff" for c in argument):
            parser.error(f"{argument!r} is not UTF-8 text")
    arguments = parser.parse_args(argv)
    arguments.config = getattr(arguments, "config", None)
    try:
        code = int(arguments.run(arguments))
        print(end="", flush=True)  # print() alone knows of a standard output that is closed
    except ConfigError as error:
        path = arguments.config or default_path()
        hint = "" if check.is_there(path) else check.NO_FILE
        output.complain(f"{path}: the configuration cannot be used", *map(str, error.problems), hint=hint)
        return EXIT_CONFIG
    except NewerSchema as error:
        output.complain(*connect.words(error))
        return EXIT_CONFIG  # not to be tried again by systemd
    except StoreError as error:
        output.complain(*connect.words(error))
        return EXIT_TRY_LATER
    except GatewayError as error:
        output.complain(*connect.words(error))
        return EXIT_REFUSED
    except BrokenPipeError:  # `| head` closed the pipe: nobody is reading any more
        _give_up_stdout()
        return EXIT_REFUSED
    except OSError as error:
        if not _is_stdouts(error):
            raise
        output.complain(f"standard output cannot be written: {error.strerror}")
        _give_up_stdout()
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def _is_stdouts(error: OSError) -> bool:
    """Whether what was printed is what failed: it is kept, and fails again."""
    try:
        print(end="", flush=True)
    except OSError as again:
        return again.errno == error.errno
    return False


def _give_up_stdout() -> None:
    """Or the interpreter's last flush complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-c",
        dest="config",
        metavar="FILE",
        type=Path,
        default=argparse.SUPPRESS,
        help="configuration (default: $MAIL_GATEWAY_CONFIG or /etc/mail-gateway/gateway.yaml)",
    )
    parser = argparse.ArgumentParser(
        prog="mail-gateway",
        description="An outbound mail gateway: HTTP and SMTP in, one queue, out by MX or relay.",
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"mail-gateway {gateway.__version__}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for noun in (
        serve,
        running,
        check,
        key,
        domain,
        template,
        queue,
        suppression,
        webhook,
        erase,
        log,
        upkeep,
        send,
        sendmail,
    ):
        noun.register(verbs, common)
    return parser
