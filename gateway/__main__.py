"""`python -m gateway` and the `mail-gateway` command."""

import sys

from gateway import cli


def main() -> None:
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
