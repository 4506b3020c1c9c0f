"""Which SQLite the store works with: apsw brings its own, and a distribution may have built it on another."""

import apsw


def version() -> str:
    """As `3.51.3`."""
    return apsw.sqlite_lib_version()
