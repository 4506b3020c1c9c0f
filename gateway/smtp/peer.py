"""Addresses of clients, the keys they stand for, and who may authenticate from them."""

from ipaddress import IPv6Address, ip_address
from typing import Any

from aiosmtpd.smtp import LoginPassword, Session

from gateway.config import Auth, SmtpListener
from gateway.errors import Reason, Refused
from gateway.smtp.door import Door


def plain_address(text: str) -> str:
    """An address as people write it: no scope, and IPv4 where IPv6 carries it."""
    if ":" not in text:
        return text
    address = IPv6Address(text.partition("%")[0])
    return str(address.ipv4_mapped or address)


def network_key(listener: SmtpListener, peer: str) -> str | None:
    """The key that the narrowest network with this address stands for."""
    if not listener.networks or not peer:
        return None
    address = ip_address(peer)
    matching = [pair for pair in listener.networks if address in pair[0]]
    return max(matching, key=lambda pair: pair[0].prefixlen)[1] if matching else None


def authenticate(
    door: Door, listener: SmtpListener, session: Session, login: bytes, password: bytes, *, own_key: str | None
) -> Any:
    """As `Door.authenticate`, for the client of a session, whose address stands for `own_key`."""
    given = LoginPassword(login, password)
    try:
        principal = door.authenticate(given.login.decode(), given.password.decode(), session.peer or "")
    except UnicodeDecodeError:
        raise Refused(Reason.AUTHENTICATION_REQUIRED, "Credentials are UTF-8.") from None
    if listener.auth is Auth.REQUIRED:
        _check_network(door, listener, own_key, principal)
    session.authenticated = True
    session.auth_data = principal
    return principal


def _check_network(door: Door, listener: SmtpListener, own_key: str | None, principal: Any) -> None:
    """Where the secret is required too, a key that stands for networks works from these only."""
    for key in {key for _, key in listener.networks} - {own_key}:
        try:
            theirs = door.network_principal(key)
        except Refused:
            continue
        if theirs == principal:
            raise Refused(Reason.AUTHENTICATION_REQUIRED, "This key is not for this address.")
