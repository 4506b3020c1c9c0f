"""The command line: one file per noun. Parses, asks the daemon (or opens the store itself), prints.

Exit codes: 0 done, 1 refused or not found, 2 usage, 75 try again later, 78 the configuration cannot be used.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import gateway
from gateway.cli import check, domain, key, queue, send, serve
from gateway.config import default_path
from gateway.errors import ConfigError, GatewayError, StoreError

EXIT_REFUSED = 1
EXIT_TRY_LATER = 75  # EX_TEMPFAIL
EXIT_CONFIG = 78  # EX_CONFIG


def main(argv: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    arguments.config = getattr(arguments, "config", None)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        print(f"{arguments.config or default_path()}: the configuration cannot be used:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return EXIT_CONFIG
    except StoreError as error:
        print(f"mail-gateway: {error}", file=sys.stderr)
        return EXIT_TRY_LATER
    except GatewayError as error:
        print(f"mail-gateway: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except BrokenPipeError:  # `| head` closed the pipe: nobody is reading any more
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 130


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
    for noun in (serve, check, key, domain, queue, send):
        noun.register(verbs, common)
    return parser
