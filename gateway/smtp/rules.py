"""What holds for every connection of one SMTP listener, worked out once: limits, modes, ready-made
answers."""

from dataclasses import dataclass
from typing import Final

from gateway.config import Auth, BareNewlines, ListenerTls, Role, SmtpListener
from gateway.configfile import is_loopback

RETURNED_BYTES: Final = 10_000_000  # of a message on the return path, where ours are not larger
QUOTING_BYTES: Final = 1_000_000  # what a notification may add to the message that it returns


@dataclass(frozen=True, slots=True)
class Rules:
    """`max_bytes` limits the content after dot-unstuffing. The ready answers end with CRLF."""

    max_bytes: int
    max_recipients: int
    auth: Auth
    anybody: bool  # may send without saying who it is; the door knows to whom
    starttls: bool  # offered, as long as the connection is in clear
    plaintext_auth: bool  # AUTH is allowed in clear
    convert: bool  # bare CR and LF are line ends; else they are refused
    greeting: bytes
    helo: bytes
    ehlo_clear: bytes
    ehlo_tls: bytes


def rules_of(
    listener: SmtpListener, *, hostname: str, max_bytes: int, max_recipients: int, certificate: bool = True
) -> Rules:
    """The rules of a configured listener. `certificate`: there is one."""
    returns = listener.role is Role.RETURN_PATH
    auth = Auth.NONE if returns else listener.auth
    if returns:  # one recipient: a report is about one address of ours
        max_bytes, max_recipients = max(RETURNED_BYTES, max_bytes + QUOTING_BYTES), 1
    loopback = is_loopback(listener.listen.host)
    plaintext = loopback if listener.plaintext_auth is None else listener.plaintext_auth
    bare = listener.bare_newlines
    if bare is None:
        # What comes back is read and goes nowhere: no other host could see another end of it.
        lenient = loopback or listener.networks or returns
        bare = BareNewlines.CONVERT if lenient else BareNewlines.REJECT
    starttls = listener.tls is ListenerTls.STARTTLS and certificate
    # RFC 9422, 4.1: RCPTMAX; RFC 1870, 3: SIZE in octets.
    always = [f"SIZE {max_bytes}", "8BITMIME", "SMTPUTF8", "PIPELINING", "DSN", f"LIMITS RCPTMAX={max_recipients}"]
    if returns:
        always.remove("DSN")  # nobody is ever told of what came back
    mechanisms = [] if auth is Auth.NONE else ["AUTH PLAIN LOGIN"]
    if mechanisms and listener.plaintext_auth:
        mechanisms.append("AUTH=PLAIN LOGIN")  # how clients older than RFC 2554 look for it
    clear = always + (["STARTTLS"] if starttls else []) + (mechanisms if plaintext else [])
    return Rules(
        max_bytes=max_bytes,
        max_recipients=max_recipients,
        auth=auth,
        anybody=returns,
        starttls=starttls,
        plaintext_auth=plaintext,
        convert=bare is BareNewlines.CONVERT,
        greeting=f"220 {hostname} ESMTP\r\n".encode("ascii"),
        helo=f"250 {hostname}\r\n".encode("ascii"),
        ehlo_clear=_ehlo(hostname, clear),
        ehlo_tls=_ehlo(hostname, [*always, "REQUIRETLS", *mechanisms]),  # RFC 8689, 2: under TLS only
    )


def _ehlo(hostname: str, keywords: list[str]) -> bytes:
    lines = [f"250-{hostname}", *(f"250-{keyword}" for keyword in keywords), "250 ENHANCEDSTATUSCODES"]
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")
