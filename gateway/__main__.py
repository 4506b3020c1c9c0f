"""`python -m gateway` and the `mail-gateway` command; as a link named `sendmail` it is a sendmail(8)."""

import sys
from pathlib import Path

from gateway import cli
from gateway.cli import sendmail


def main() -> None:
    program = Path(sys.argv[0]).name
    sys.exit(sendmail.main([program, *sys.argv[1:]]) if program in sendmail.NAMES else cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
