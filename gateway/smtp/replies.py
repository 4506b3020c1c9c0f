"""The replies of the SMTP server, as bytes with their CRLF.

Guarantees: printable ASCII only, one line of at most 512 octets (RFC 5321, 4.5.3.1.5), an enhanced status
code where RFC 2034 wants one, and nothing of what went wrong inside. Nothing a client sent is repeated but
through `line`, which makes it harmless. Which reply is due when is decided in engine.py.
"""

import re
from typing import Final

from gateway.errors import GatewayError, Reason, Refused, StoreFull

MAX_LINE_BYTES: Final = 512  # RFC 5321, 4.5.3.1.5: code, text and CRLF
CLOSING: Final = b"421 "  # RFC 5321, 3.8: this code always is the last word
_UNPRINTABLE: Final = re.compile("[^ -~]")


def line(text: str) -> bytes:
    """One reply line of any text: what is not printable ASCII becomes `?`, what is too long is cut."""
    if not (text.isascii() and text.isprintable()):
        text = _UNPRINTABLE.sub("?", text)
    return text[: MAX_LINE_BYTES - 2].encode("ascii") + b"\r\n"


def of(error: GatewayError) -> bytes:
    """The reply for an error of ours; what is not known is temporary (451), never a 5xx."""
    match error:
        case Refused(reason=Reason.AUTHENTICATION_REQUIRED):
            return KEY_GONE
        case Refused():
            return line(error.smtp_reply)
        case StoreFull():
            return NO_ROOM
        case _:
            return OUR_FAULT


def queued(name: str) -> bytes:
    """The message is in the queue for good, under this id."""
    return line(f"250 2.0.0 queued as {name}")


HELO_FIRST: Final = b"503 5.5.1 Say EHLO first\r\n"
NO_NAME: Final = b"501 5.5.4 A host name must follow\r\n"
NO_ARGUMENT: Final = b"501 5.5.4 This command takes no argument\r\n"
BAD_ARGUMENT: Final = b"501 5.5.4 The argument is not understood\r\n"
NOT_TEXT: Final = b"501 5.5.2 The line is not UTF-8\r\n"
UNKNOWN: Final = b"500 5.5.2 Unknown command\r\n"
NOT_IMPLEMENTED: Final = b"502 5.5.1 Command not implemented\r\n"
TOO_LONG: Final = b"500 5.5.2 The line is too long\r\n"
BARE_LF: Final = b"500 5.5.2 A line ends with CR LF\r\n"
TOO_MANY_ERRORS: Final = b"421 4.7.0 Too many errors, closing\r\n"
TOO_MANY_COMMANDS: Final = b"421 4.7.0 Too many commands without a message, closing\r\n"
TOO_MANY_REFUSALS: Final = b"421 4.7.0 Too many refused addresses, closing\r\n"
NO_COMMAND: Final = b"421 4.7.0 This is no command, and no content was asked for; closing\r\n"
TOO_MANY_CONNECTIONS: Final = b"421 4.7.0 Too many connections, try again later\r\n"
TIMEOUT: Final = b"421 4.4.2 Timeout, closing\r\n"
SHUTTING_DOWN: Final = b"421 4.3.2 The service is shutting down\r\n"
BROKEN: Final = b"421 4.3.0 An error of ours, try again later\r\n"

OK: Final = b"250 2.0.0 OK\r\n"
BYE: Final = b"221 2.0.0 Bye\r\n"
CANNOT_VERIFY: Final = b"252 2.5.0 Cannot verify, but mail may be sent to try\r\n"  # RFC 5321, 3.5.3
HELP: Final = b"214 2.0.0 EHLO HELO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT\r\n"
READY_FOR_TLS: Final = b"220 2.0.0 Ready to start TLS\r\n"
ALREADY_TLS: Final = b"503 5.5.1 TLS is active already\r\n"

AUTHENTICATED: Final = b"235 2.7.0 Authentication succeeded\r\n"
AUTH_FAILED: Final = b"535 5.7.8 Authentication failed\r\n"
AUTH_AWAY: Final = b"454 4.7.0 Authentication is not possible now, try again later\r\n"
AUTH_CANCELLED: Final = b"501 5.7.0 Authentication cancelled\r\n"  # RFC 4954, 4
AUTH_MALFORMED: Final = b"501 5.5.2 The response is not what the mechanism wants\r\n"
AUTH_TOO_LONG: Final = b"500 5.5.6 The authentication line is too long\r\n"  # RFC 4954, 6
AUTH_UNKNOWN: Final = b"504 5.5.4 Unknown mechanism; there are PLAIN and LOGIN\r\n"
AUTH_TWICE: Final = b"503 5.5.1 Authenticated already\r\n"
AUTH_LATE: Final = b"503 5.5.1 No AUTH during a mail transaction\r\n"
AUTH_NEEDS_TLS: Final = b"538 5.7.11 Use STARTTLS before AUTH\r\n"
AUTH_REQUIRED: Final = b"530 5.7.0 Authentication required\r\n"
STARTTLS_FIRST: Final = b"530 5.7.0 Authentication required: use STARTTLS, then AUTH\r\n"
# Behind AUTH: who has another key connects anew with it, and no mail is lost for a key that was exchanged.
KEY_GONE: Final = b"421 4.7.0 The key of this session is not good any more, connect again\r\n"
TOO_MANY_FAILURES: Final = b"421 4.7.0 Too many failed authentications, closing\r\n"
NOT_LISTED: Final = b"550 5.7.1 This listener takes mail from its listed networks only\r\n"

SENDER_OK: Final = b"250 2.1.0 OK\r\n"
RECIPIENT_OK: Final = b"250 2.1.5 OK\r\n"
MAIL_TWICE: Final = b"503 5.5.1 A mail transaction is open already\r\n"
MAIL_FIRST: Final = b"503 5.5.1 Say MAIL first\r\n"
NO_RECIPIENTS: Final = b"554 5.5.1 No recipient was accepted\r\n"  # RFC 5321, 3.3
TOO_MANY_RECIPIENTS: Final = b"452 4.5.3 Too many recipients\r\n"
UNKNOWN_PARAMETER: Final = b"555 5.5.4 A parameter is not known\r\n"
BAD_PARAMETER: Final = b"501 5.5.4 The value of a parameter is not understood\r\n"
PARAMETER_TWICE: Final = b"501 5.5.4 A parameter may be given once\r\n"
BAD_RET: Final = b"501 5.5.4 RET is FULL or HDRS\r\n"
BAD_ENVID: Final = b"501 5.5.4 ENVID is xtext of 1 to 100 printable ASCII characters\r\n"
BAD_NOTIFY: Final = b"501 5.5.4 NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY\r\n"
BAD_ORCPT: Final = b"501 5.5.4 ORCPT is rfc822;address in xtext, or utf-8;address as RFC 6533 has it\r\n"
REQUIRETLS_IN_CLEAR: Final = b"530 5.7.10 REQUIRETLS needs a connection with TLS\r\n"
NEEDS_SMTPUTF8: Final = b"553 5.6.7 An address beyond ASCII needs the parameter SMTPUTF8\r\n"

GO_AHEAD: Final = b"354 End data with <CR><LF>.<CR><LF>\r\n"
TOO_LARGE: Final = b"552 5.3.4 The message is too large\r\n"
BARE_NEWLINE: Final = b"550 5.6.0 The message contains a CR or LF that is not part of a CR LF\r\n"
NUL: Final = b"550 5.6.0 The message contains a NUL\r\n"
OUR_FAULT: Final = b"451 4.3.0 An error of ours, try again later\r\n"
NO_ROOM: Final = b"452 4.3.1 No room for mail, try again later\r\n"
