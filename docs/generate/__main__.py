"""`python -m docs.generate`: write docs/reference/."""

import sys
from pathlib import Path
from typing import Final

from docs.generate import pages

REFERENCE: Final = Path(__file__).parents[1] / "reference"


def main() -> int:
    """Write what changed, and say what that was."""
    REFERENCE.mkdir(exist_ok=True)
    for name, make in pages.PAGES.items():
        path, text = REFERENCE / name, make()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"docs/reference/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
