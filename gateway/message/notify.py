"""What a submitter wants to be told of a recipient (RFC 3461, 4.1), as small numbers that add up. Pure."""

from typing import Final

SUCCESS: Final = 1
FAILURE: Final = 2
DELAY: Final = 4
ASKED: Final = 8  # the client said so itself, so it is passed on to a host that knows DSN; alone it is NOTIFY=NEVER
NAMES: Final = {FAILURE: "failure", DELAY: "delay", SUCCESS: "success"}  # what matters most, first
BY_SMTP: Final = FAILURE | DELAY  # where neither client nor key say anything
BY_HTTP: Final = 0  # its events tell
