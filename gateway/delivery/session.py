"""Opening a connection to a next hop: connect, greeting, EHLO, STARTTLS, AUTH. The only aiosmtplib user.

Guarantees: credentials leave only over TLS or to a loopback address; where TLS is required nothing of a message leaves
in clear; opportunistic TLS that fails is tried again in clear once, on a new connection, and the session says so (but
not where a certificate was to be verified). What goes wrong is a `Failure`, a value. aiosmtplib's protocol connects and
negotiates; `wire.Wire` then takes its transport.
"""

import asyncio
import functools
import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from aiosmtplib.auth import auth_login_encode, auth_plain_encode
from aiosmtplib.errors import SMTPException, SMTPResponseException
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from gateway.config import HopTls, Secret, Timeouts
from gateway.delivery.reply import make_reply
from gateway.delivery.verdict import Word
from gateway.delivery.wire import Offer, Wire

_HANDSHAKE_S: Final = 30.0
_VERIFIED: Final[dict[Path | None, ssl.SSLContext]] = {}  # by authority; as many as routes name


@dataclass(frozen=True, slots=True)
class Hop:
    """Where to connect, and how: everything that makes two connections interchangeable."""

    name: str  # host name, for TLS and for people
    address: str  # IP address
    port: int
    tls: HopTls
    verify: bool
    ca: Path | None
    ehlo: str
    source: str | None
    username: str | None = None
    password: Secret | None = None


@dataclass(slots=True)
class Session:
    """An open connection. `tls` is the protocol version, "" in clear; `note` says what a person should know."""

    hop: Hop
    wire: Wire
    tls: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no session; `word` is what it means for every recipient."""

    word: Word


class _Failed(Exception):
    def __init__(self, stage: str, text: str, *, code: int = 0, enhanced: str = "") -> None:
        super().__init__(text)
        self.word = Word(stage, code, enhanced, text)


class _TlsFailed(_Failed):
    """STARTTLS was refused or its handshake failed."""


async def open_session(hop: Hop, timeouts: Timeouts) -> Session | Failure:
    """A connection ready for MAIL."""
    try:
        return await _open(hop, timeouts, starttls=hop.tls in {HopTls.OPPORTUNISTIC, HopTls.STARTTLS})
    except _TlsFailed as failed:
        if hop.tls is not HopTls.OPPORTUNISTIC or hop.verify:
            return Failure(failed.word)  # whoever asks for proof does not do without it because there is none
        reason = str(failed)
    except _Failed as failed:
        return Failure(failed.word)
    try:
        # A handshake that failed leaves the connection unusable: RFC 7435 lets us go on in clear, on a new one.
        session = await _open(hop, timeouts, starttls=False)
    except _Failed as failed:
        return Failure(failed.word)
    session.note = f"TLS failed, sent in clear: {reason}"
    return session


async def _open(hop: Hop, timeouts: Timeouts, *, starttls: bool) -> Session:
    loop = asyncio.get_running_loop()
    if not _is_address(hop.address):  # a name would be looked up behind our back, in a thread
        raise _Failed("connect", f"{hop.address} is not an IP address")
    implicit = hop.tls is HopTls.IMPLICIT
    context = await _tls_context(hop) if implicit or starttls else None
    try:
        async with asyncio.timeout(timeouts.connect_s):
            _, protocol = await loop.create_connection(
                lambda: SMTPProtocol(loop),
                hop.address,
                hop.port,
                ssl=context if implicit else None,
                server_hostname=hop.name if implicit else None,
                local_addr=(hop.source, 0) if hop.source else None,
            )
    except TimeoutError:
        raise _Failed("connect", f"no connection to {hop.name} within {timeouts.connect_s:g} s") from None
    except ssl.SSLError as error:
        raise _TlsFailed("tls", f"TLS with {hop.name} failed: {_tls_text(error)}") from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # asyncio's own text does not say why
        raise _Failed("connect", f"cannot connect to {hop.name} port {hop.port}: {why}") from error
    except ValueError as error:  # a host name that no certificate can have
        raise _TlsFailed("tls", f"TLS with {hop.name} failed: {error}") from error
    try:
        return await _negotiate(protocol, hop, timeouts, context=context if starttls else None)
    except BaseException:
        if protocol.transport is not None:
            cast(asyncio.Transport, protocol.transport).abort()
        raise


async def _negotiate(
    protocol: SMTPProtocol, hop: Hop, timeouts: Timeouts, *, context: ssl.SSLContext | None
) -> Session:
    greeting = await _reply(protocol, "greeting", None, timeouts.greeting_s)
    if greeting.code != 220:
        raise _refused("greeting", greeting)
    extensions, mechanisms = await _ehlo(protocol, hop, timeouts)
    if context is not None:
        if "starttls" in extensions:
            await _starttls(protocol, hop, timeouts, context)
            extensions, mechanisms = await _ehlo(protocol, hop, timeouts)
        elif hop.tls is HopTls.STARTTLS:
            raise _TlsFailed("starttls", f"{hop.name} does not offer STARTTLS, which this route requires")
    encryption = _transport(protocol, "ehlo").get_extra_info("ssl_object")
    if hop.username is not None and hop.password is not None:
        if encryption is None and not ipaddress.ip_address(hop.address).is_loopback:
            raise _Failed("auth", f"the password is not sent to {hop.name} without TLS")
        await _authenticate(protocol, hop.username, hop.password.value, mechanisms, timeouts)
    wire = Wire(_transport(protocol, "ehlo"), _offer(extensions), timeouts)
    return Session(hop, wire, tls=encryption.version() or "" if encryption is not None else "")


def _transport(protocol: SMTPProtocol, stage: str) -> asyncio.Transport:
    if protocol.transport is None:  # it may go between the reply and our turn
        raise _Failed(stage, "the remote host closed the connection")
    return cast(asyncio.Transport, protocol.transport)


async def _ehlo(protocol: SMTPProtocol, hop: Hop, timeouts: Timeouts) -> tuple[dict[str, str], list[str]]:
    reply = await _reply(protocol, "ehlo", b"EHLO " + hop.ehlo.encode(), timeouts.command_s)
    if 200 <= reply.code < 300:
        return parse_esmtp_extensions(reply.message)
    if reply.code < 500:
        raise _refused("ehlo", reply)
    reply = await _reply(protocol, "ehlo", b"HELO " + hop.ehlo.encode(), timeouts.command_s)  # RFC 5321, 3.2
    if not 200 <= reply.code < 300:
        raise _refused("ehlo", reply)
    return {}, []


async def _starttls(protocol: SMTPProtocol, hop: Hop, timeouts: Timeouts, context: ssl.SSLContext) -> None:
    timeout_s = min(_HANDSHAKE_S, timeouts.command_s)
    try:
        await protocol.start_tls(context, server_hostname=hop.name, timeout=timeout_s)
    except SMTPResponseException as error:
        word = _refused("starttls", SMTPResponse(error.code, error.message)).word
        raise _TlsFailed(word.stage, word.text, code=word.code, enhanced=word.enhanced) from error
    except (SMTPException, OSError, ValueError) as error:
        raise _TlsFailed("tls", f"TLS with {hop.name} failed: {_tls_text(error)}") from error


async def _authenticate(
    protocol: SMTPProtocol, username: str, password: str, mechanisms: list[str], timeouts: Timeouts
) -> None:
    if "plain" in mechanisms:
        secret = auth_plain_encode(username, password)
        reply = await _reply(protocol, "auth", b"AUTH PLAIN " + secret, timeouts.command_s)
    elif "login" in mechanisms:
        name, secret = auth_login_encode(username, password)
        reply = await _reply(protocol, "auth", b"AUTH LOGIN", timeouts.command_s)
        for answer in (name, secret):
            if reply.code == 334:
                reply = await _reply(protocol, "auth", answer, timeouts.command_s)
    else:
        raise _Failed(
            "auth",
            f"the relay offers neither AUTH PLAIN nor LOGIN ({' '.join(mechanisms) or 'no AUTH at all'})",
        )
    if reply.code != 235:
        raise _refused("auth", _discreet(reply, password, secret.decode()))


async def _reply(protocol: SMTPProtocol, stage: str, command: bytes | None, timeout_s: float) -> SMTPResponse:
    try:
        if command is None:
            return await protocol.read_response(timeout=timeout_s)
        return await protocol.execute_command(command, timeout=timeout_s)
    except SMTPResponseException as error:
        said = "" if stage == "auth" else f": {error.message[:200]}"  # it could repeat the password
        raise _Failed(stage, f"not an SMTP reply{said}") from error
    except (SMTPException, OSError) as error:
        raise _Failed(stage, str(error) or type(error).__name__) from error


def _discreet(reply: SMTPResponse, *secrets: str) -> SMTPResponse:
    """Without its text where that repeats the credentials: replies are logged, and shown to senders."""
    said = "".join(reply.message.split())  # wherever it was folded
    if any("".join(secret.split()) in said for secret in secrets):
        return SMTPResponse(reply.code, "the relay repeated the credentials: its text is withheld")
    return reply


def _refused(stage: str, response: SMTPResponse) -> _Failed:
    lines = [f"{response.code} {line}".encode() for line in response.message.split("\n")]
    reply = make_reply(lines)
    return _Failed(stage, reply.text, code=reply.code, enhanced=reply.enhanced)


def _offer(extensions: dict[str, str]) -> Offer:
    size = extensions.get("size")
    limits = dict(part.upper().split("=", 1) for part in extensions.get("limits", "").split() if "=" in part)
    return Offer(
        pipelining="pipelining" in extensions,
        eight_bit="8bitmime" in extensions,
        smtputf8="smtputf8" in extensions,
        size=int(size)
        if size and size.isascii() and size.isdigit() and len(size) < 20
        else 0
        if size is not None
        else None,
        max_recipients=_limit(limits, "RCPTMAX"),
        max_transactions=_limit(limits, "MAILMAX"),
    )


def _limit(limits: dict[str, str], name: str) -> int | None:
    """A limit of RFC 9422; None where it is not stated, or nonsense."""
    most = limits.get(name, "")
    return int(most) if most.isascii() and most.isdigit() and 0 < len(most) < 7 and int(most) > 0 else None


async def _tls_context(hop: Hop) -> ssl.SSLContext:
    if not hop.verify:
        return _unverified()
    context = _VERIFIED.get(hop.ca)
    if context is None:
        try:
            # Reading the system's certificates takes 20 ms: not in the loop, and once.
            context = await asyncio.to_thread(_verified, hop.ca)
        except OSError as error:
            where = hop.ca or "the system's certificates"
            raise _Failed("tls", f"{where} cannot be read: {error.strerror or error}") from error
        _VERIFIED[hop.ca] = context
    return context


@functools.cache
def _unverified() -> ssl.SSLContext:
    """For opportunistic TLS: any certificate, old ones too, is better than none (RFC 7435, 3)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=1")  # level 2 refuses keys below 2048 bits, and the mail would go in clear
    return context


def _verified(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _tls_text(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    return getattr(error, "reason", None) or str(error) or type(error).__name__
