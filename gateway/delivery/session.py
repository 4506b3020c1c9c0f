"""Opening a connection to a next hop: connect, greeting, EHLO, STARTTLS, AUTH. The only aiosmtplib user.

Guarantees: credentials leave only over TLS or to a loopback address; where TLS is required nothing of a message leaves
in clear, and nothing at all before the host is who it must be; opportunistic TLS that fails is tried again in clear
once, on a new connection, and the session says so (but not where a certificate was to be verified). What goes wrong is
a `Failure`, a value. aiosmtplib's protocol connects and negotiates; `wire.Wire` then takes its transport.
"""

import asyncio
import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from aiosmtplib.auth import auth_login_encode, auth_plain_encode
from aiosmtplib.errors import SMTPException, SMTPResponseException
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from gateway.config import HopTls, Secret, Timeouts, Tls
from gateway.delivery.envelope import Offer
from gateway.delivery.reply import make_reply
from gateway.delivery.tls import context as tls_context
from gateway.delivery.tls import dane
from gateway.delivery.tls import peer as tls_peer
from gateway.delivery.tls.context import Terms
from gateway.delivery.tls.dane import Tlsa
from gateway.delivery.tls.memory import TlsMemory
from gateway.delivery.trace import Trace
from gateway.delivery.verdict import Word
from gateway.delivery.wire import Wire

_HANDSHAKE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Hop:
    """Where to connect, and how: everything that makes two connections interchangeable.

    `tlsa`, `names`, `policy` and `note` are a tls_policy.Demand's.
    """

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
    min_tls: str = "1.2"
    certificate: Tls | None = None  # ours, for a host that asks for one
    tlsa: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()
    policy: str = ""
    note: str = ""


@dataclass(slots=True)
class Session:
    """An open connection. `tls` is the protocol version, "" in clear; `note` says what a person should know; whose
    demand it meets is `hop.policy`."""

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
    """STARTTLS was refused, its handshake failed, or the host is not who it must be."""


class _Talk(SMTPProtocol):
    """aiosmtplib's side of the dialogue, with who is told of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, trace: Trace | None) -> None:
        super().__init__(loop)
        self.trace = trace


async def open_session(
    hop: Hop, timeouts: Timeouts, memory: TlsMemory | None = None, trace: Trace | None = None
) -> Session | Failure:
    """A connection ready for MAIL. `memory`: where TLS failed not long ago; `trace` is told what is said."""
    try:
        return await _open_somehow(hop, timeouts, TlsMemory() if memory is None else memory, trace)
    except _Failed as failed:
        return Failure(failed.word)


async def _open_somehow(hop: Hop, timeouts: Timeouts, memory: TlsMemory, trace: Trace | None) -> Session:
    place = (hop.address, hop.port, hop.min_tls)
    # Whoever asks for proof does not do without it because there is none.
    in_clear = hop.tls is HopTls.OPPORTUNISTIC and not hop.verify
    if in_clear and (reason := memory.reason(place)) is not None:
        return await _open(hop, timeouts, trace, starttls=False, note=f"TLS failed before, sent in clear: {reason}")
    try:
        session = await _open(hop, timeouts, trace, starttls=hop.tls in {HopTls.OPPORTUNISTIC, HopTls.STARTTLS})
    except _TlsFailed as failed:
        if not in_clear:
            raise
        reason = str(failed)
    else:
        if session.tls:
            memory.forget(place)
        return session
    # A handshake that failed leaves the connection unusable: RFC 7435 lets us go on in clear, on a new one.
    session = await _open(hop, timeouts, trace, starttls=False, note=f"TLS failed, sent in clear: {reason}")
    memory.remember(place, reason)  # not before: a host that is going down fails in every way
    return session


async def _open(hop: Hop, timeouts: Timeouts, trace: Trace | None, *, starttls: bool, note: str = "") -> Session:
    if trace is not None:
        trace.note(f"connecting to {hop.address} port {hop.port}")
    loop = asyncio.get_running_loop()
    if not _is_address(hop.address):  # a name would be looked up behind our back, in a thread
        raise _Failed("connect", f"{hop.address} is not an IP address")
    implicit = hop.tls is HopTls.IMPLICIT
    context = await _tls_context(hop) if implicit or starttls else None
    try:
        async with asyncio.timeout(timeouts.connect_s):
            _, protocol = await loop.create_connection(
                lambda: _Talk(loop, trace),
                hop.address,
                hop.port,
                ssl=context if implicit else None,
                server_hostname=hop.name if implicit else None,
                local_addr=(hop.source, 0) if hop.source else None,
            )
    except TimeoutError:
        raise _Failed("connect", f"no connection to {hop.name} within {timeouts.connect_s:g} s") from None
    except ssl.SSLError as error:
        raise _handshake_failed(hop, _tls_text(error)) from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # asyncio's own text does not say why
        raise _Failed("connect", f"cannot connect to {hop.name} port {hop.port}: {why}") from error
    except ValueError as error:  # a host name that no certificate can have
        raise _handshake_failed(hop, str(error)) from error
    try:
        session = await _negotiate(protocol, hop, timeouts, context=context if starttls else None)
    except BaseException:
        if protocol.transport is not None:
            cast(asyncio.Transport, protocol.transport).abort()
        raise
    session.note = "; ".join(filter(None, (note, _met(hop), hop.note)))
    return session


def _met(hop: Hop) -> str:
    """Which policy was met, and how."""
    if not hop.policy:
        return ""
    how = "verified" if hop.tlsa or hop.verify else "encrypted, not verified: none of its TLSA records can be used"
    return f"{hop.policy}: {how}"


async def _negotiate(protocol: _Talk, hop: Hop, timeouts: Timeouts, *, context: ssl.SSLContext | None) -> Session:
    greeting = await _reply(protocol, "greeting", None, timeouts.greeting_s)
    if greeting.code != 220:
        raise _refused("greeting", greeting)
    extensions, mechanisms = await _ehlo(protocol, hop, timeouts)
    if context is not None:
        if "starttls" in extensions:
            await _starttls(protocol, hop, timeouts, context)
            extensions, mechanisms = await _ehlo(protocol, hop, timeouts)
        elif hop.tls is HopTls.STARTTLS:
            text = f"{hop.name} does not offer STARTTLS, which {hop.policy or 'this route'} requires"
            raise _TlsFailed("starttls", text, enhanced="4.7.4")
    encryption = _transport(protocol, "ehlo").get_extra_info("ssl_object")
    if hop.username is not None and hop.password is not None:
        if encryption is None and not ipaddress.ip_address(hop.address).is_loopback:
            raise _Failed("auth", f"the password is not sent to {hop.name} without TLS")
        await _authenticate(protocol, hop.username, hop.password.value, mechanisms, timeouts)
    wire = Wire(_transport(protocol, "ehlo"), _offer(extensions), timeouts)
    if protocol.trace is not None and encryption is not None:
        protocol.trace.note(f"{encryption.version()} {encryption.cipher()[0]}")
    return Session(hop, wire, tls=encryption.version() or "" if encryption is not None else "")


def _transport(protocol: SMTPProtocol, stage: str) -> asyncio.Transport:
    if protocol.transport is None:  # it may go between the reply and our turn
        raise _Failed(stage, "the remote host closed the connection")
    return cast(asyncio.Transport, protocol.transport)


async def _ehlo(protocol: _Talk, hop: Hop, timeouts: Timeouts) -> tuple[dict[str, str], list[str]]:
    reply = await _reply(protocol, "ehlo", b"EHLO " + hop.ehlo.encode(), timeouts.command_s)
    if 200 <= reply.code < 300:
        return parse_esmtp_extensions(reply.message)
    if reply.code < 500:
        raise _refused("ehlo", reply)
    reply = await _reply(protocol, "ehlo", b"HELO " + hop.ehlo.encode(), timeouts.command_s)  # RFC 5321, 3.2
    if not 200 <= reply.code < 300:
        raise _refused("ehlo", reply)
    return {}, []


async def _starttls(protocol: _Talk, hop: Hop, timeouts: Timeouts, context: ssl.SSLContext) -> None:
    if protocol.trace is not None:
        protocol.trace.sent(b"STARTTLS")
    timeout_s = min(_HANDSHAKE_S, timeouts.command_s)
    try:
        await protocol.start_tls(context, server_hostname=hop.names[0] if hop.names else hop.name, timeout=timeout_s)
    except SMTPResponseException as error:
        word = _refused("starttls", SMTPResponse(error.code, error.message)).word
        raise _TlsFailed(word.stage, word.text, code=word.code, enhanced=word.enhanced) from error
    except (SMTPException, OSError, ValueError) as error:
        raise _handshake_failed(hop, _tls_text(error)) from error
    if hop.tlsa:
        shown = tls_peer.chain(_transport(protocol, "tls").get_extra_info("ssl_object"))
        why = dane.mismatch(hop.tlsa, shown, hop.names, datetime.now(UTC))
        if why is not None:
            raise _handshake_failed(hop, why)


def _handshake_failed(hop: Hop, why: str) -> _TlsFailed:
    needed = f", which {hop.policy} requires," if hop.policy else ""
    return _TlsFailed("tls", f"TLS with {hop.name}{needed} failed: {why}", enhanced="4.7.5")


async def _authenticate(
    protocol: _Talk, username: str, password: str, mechanisms: list[str], timeouts: Timeouts
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


async def _reply(protocol: _Talk, stage: str, command: bytes | None, timeout_s: float) -> SMTPResponse:
    trace, secret = protocol.trace, stage == "auth"
    if trace is not None and command is not None:
        (trace.sent_secret if secret else trace.sent)(command)
    reply = await _ask(protocol, stage, command, timeout_s)
    if trace is not None:
        trace.note(f"< {reply.code}" if secret else f"< {reply.code} {reply.message}")  # it could repeat the password
    return reply


async def _ask(protocol: _Talk, stage: str, command: bytes | None, timeout_s: float) -> SMTPResponse:
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
    if reply.positive:  # a 250 in place of a greeting's 220 is no delivery, though a later 250 would be one
        return _Failed(stage, f"the remote host answered out of order: {reply.text}", enhanced="4.5.0")
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
        max_domains=_limit(limits, "RCPTDOMAINMAX"),
        dsn="dsn" in extensions,
        requiretls="requiretls" in extensions,
    )


def _limit(limits: dict[str, str], name: str) -> int | None:
    """A limit of RFC 9422; None where it is not stated, or nonsense."""
    most = limits.get(name, "")
    return int(most) if most.isascii() and most.isdigit() and 0 < len(most) < 7 and int(most) > 0 else None


async def _tls_context(hop: Hop) -> ssl.SSLContext:
    try:
        return await tls_context.context(Terms(hop.verify, hop.ca, hop.min_tls, hop.certificate))
    except OSError as error:
        where = hop.certificate.certificate if hop.certificate else hop.ca or "the system's certificates"
        raise _Failed("tls", f"{where} cannot be used: {error.strerror or error}") from error


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
