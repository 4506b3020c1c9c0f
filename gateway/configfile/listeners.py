"""The listeners of both doors and their certificate: `tls`, `http`, `smtp`.

Guarantees: no configuration that passes is an open relay, sends keys in clear beyond this machine without saying so, or
has two listeners where only one can be bound.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from gateway import certificates
from gateway.config import (
    Auth,
    BareNewlines,
    Config,
    Http,
    HttpListener,
    Listen,
    ListenerTls,
    Network,
    Role,
    Smtp,
    SmtpListener,
    Tls,
)
from gateway.configfile import grammar
from gateway.configfile.networks import own_networks
from gateway.configfile.publicurl import read_public_url
from gateway.configfile.sources import Sources
from gateway.yamltree import Section, Value


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a listener will be, and the place in the file that says so."""

    listen: Listen
    tls: ListenerTls
    value: Value


def read_tls(value: Value, sources: Sources) -> Tls | None:
    section = value.section()
    certificate, key = section.require("certificate"), section.require("key")
    section.close()
    chain = sources.file(certificate) if certificate is not None else None
    private = sources.private_file(key) if key is not None else None
    if certificate is None or chain is None or private is None:
        return None
    tls = Tls(chain, private)
    try:
        certificates.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls)
    except (OSError, ValueError) as error:
        certificate.problem(f"certificate and key cannot be used together: {getattr(error, 'reason', None) or error}")
        return None
    _warn_of_its_dates(certificate, chain, sources)
    return tls


def _warn_of_its_dates(value: Value, chain: Path, sources: Sources) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(chain.read_bytes())
    except OSError as error:
        value.problem(f"{chain} cannot be read: {error.strerror}")
        return
    except (ValueError, x509.InvalidVersion):  # OpenSSL takes more than that
        value.problem(f"{chain} holds no certificate in PEM that begins with BEGIN CERTIFICATE")
        return
    if sources.now > certificate.not_valid_after_utc:
        value.warning(f"the certificate ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    elif sources.now < certificate.not_valid_before_utc:
        value.warning(f"the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}")


def read_http(value: Value, bound: list[Bound]) -> Http:
    section = value.section()
    public_url = section.take("public_url", read_public_url, None)
    listeners = section.get("listeners")
    proxies = section.take("trusted_proxies", _proxies, ())
    place = section.get("admin")
    default = None if section.is_null("admin") else Http().admin
    admin = section.parsed("admin", grammar.admin, grammar.Admin(default)).listen
    section.close()
    if listeners is None:
        http = Http(trusted_proxies=proxies, admin=admin, public_url=public_url)
        return default_http(value, bound, http, admin=place)
    items = tuple(_http_listener(item, bound, proxied=bool(proxies)) for item in listeners.items())
    http = Http(items, admin, proxies, public_url)
    _check_admin(place or Value(value.node, "http.admin", value.findings, value.line), http, bound)
    return http


def default_http(value: Value, bound: list[Bound], http: Http | None = None, *, admin: Value | None = None) -> Http:
    """What is served where no listener is given; `value` is the place that could give one, `admin` that which gives
    `http.admin`."""
    http = http or Http()
    place = Value(value.node, "http.listeners", value.findings, value.line)
    bound.extend(Bound(listener.listen, listener.tls, place) for listener in http.listeners)
    _check_admin(admin or Value(value.node, "http.admin", value.findings, value.line), http, bound)
    return http


def _check_admin(place: Value, http: Http, bound: list[Bound]) -> None:
    """Metrics need a key where they can be had from elsewhere, and a key needs what guards it on a listener."""
    admin = http.admin
    if admin is None or any(listener.listen == admin for listener in http.listeners):
        return
    if not grammar.is_loopback(admin.host):
        place.problem(
            "keys would travel in clear: give a loopback address, or that of one of http.listeners, where a key with "
            "the scope admin is asked for"
        )
    bound.append(Bound(admin, ListenerTls.NONE, place))


def _proxies(value: Value) -> tuple[Network, ...]:
    return own_networks(value, "who could all say that they are somebody else")


def _http_listener(value: Value, bound: list[Bound], *, proxied: bool) -> HttpListener:
    section = value.section()
    default = HttpListener()
    place = section.require("listen")
    listener = HttpListener(
        listen=section.parsed("listen", grammar.parse_listen, default.listen),
        tls=section.one_of("tls", default.tls),
        insecure=section.take("insecure", Value.boolean, default.insecure),
    )
    section.close()
    if listener.tls is ListenerTls.STARTTLS:
        value.problem("HTTP has no STARTTLS: tls is none or implicit")
        return listener
    guarded = listener.insecure or proxied or grammar.is_loopback(listener.listen.host)
    if listener.tls is ListenerTls.NONE and not guarded:
        value.problem(
            "keys would travel in clear: set tls: implicit, or trusted_proxies or insecure: true "
            "where a proxy in front has TLS"
        )
    if place is not None:
        bound.append(Bound(listener.listen, listener.tls, place))
    return listener


def read_smtp(value: Value, bound: list[Bound]) -> Smtp | None:
    section = value.section()
    listeners = section.get("listeners")
    place = section.get("feedback")
    feedback = tuple(section.each("feedback", grammar.address))
    section.close()
    found = tuple(_smtp_listener(item, bound) for item in listeners.items()) if listeners is not None else ()
    if feedback and place is not None and not any(one.role is Role.RETURN_PATH for one in found):
        place.problem("complaints come to a listener with role: return_path, and there is none in smtp.listeners")
    return Smtp(found, feedback) if listeners is not None else None


def _smtp_listener(value: Value, bound: list[Bound]) -> SmtpListener:
    section = value.section()
    default = SmtpListener()
    section.later("hide_client")
    if section.one_of("role", default.role) is Role.RETURN_PATH:
        return _return_path(section, bound)
    place = section.require("listen")
    listener = SmtpListener(
        listen=section.parsed("listen", grammar.parse_listen, default.listen),
        tls=section.one_of("tls", default.tls),
        auth=section.one_of("auth", default.auth),
        min_tls=section.parsed("min_tls", grammar.tls_version, default.min_tls),
        plaintext_auth=section.take("plaintext_auth", Value.boolean, None),
        bare_newlines=section.take("bare_newlines", _bare_newlines, None),
        networks=section.take("networks", _networks, ()),
    )
    _refuse_open_relay(listener, section)
    section.close()
    in_clear = listener.plaintext_auth is not True and not grammar.is_loopback(listener.listen.host)
    if listener.auth is Auth.REQUIRED and listener.tls is ListenerTls.NONE and in_clear:
        value.problem("nobody could authenticate: AUTH needs TLS here; set tls, or plaintext_auth: true")
    if place is not None:
        bound.append(Bound(listener.listen, listener.tls, place))
    return listener


def _return_path(section: Section, bound: list[Bound]) -> SmtpListener:
    """One that takes mail from anybody: who may be written to there, the domains say."""
    for name in ("auth", "plaintext_auth", "networks"):
        given = section.get(name)
        if given is not None:
            given.problem("role: return_path takes mail from anybody, and nobody logs in there; leave it out")
    place = section.require("listen")
    wanted = section.get("tls")
    listener = SmtpListener(
        listen=section.parsed("listen", grammar.parse_listen, SmtpListener().listen),
        tls=section.one_of("tls", ListenerTls.STARTTLS),
        auth=Auth.NONE,
        min_tls=section.parsed("min_tls", grammar.tls_version, SmtpListener().min_tls),
        bare_newlines=section.take("bare_newlines", _bare_newlines, None),
        role=Role.RETURN_PATH,
    )
    if listener.tls is ListenerTls.IMPLICIT and wanted is not None:
        wanted.problem("other hosts come in clear and say STARTTLS (RFC 3207): tls is starttls or none")
    if place is not None:
        # Where nothing is said, STARTTLS is offered if there is a certificate.
        bound.append(Bound(listener.listen, listener.tls if wanted is not None else ListenerTls.NONE, place))
    section.close()
    return listener


def check_return_path(top: Section, config: Config) -> None:
    """A listener that takes nothing, and senders that nothing comes back to: both may be meant, where the store or
    another host has the other half."""
    listening = any(listener.role is Role.RETURN_PATH for listener in config.smtp.listeners)
    named = any(domain.return_path for domain in config.domains.values())
    place = top.get("smtp")
    if listening and not named and not config.smtp.feedback and place is not None:
        place.warning(
            "the listener with role: return_path refuses all mail until a domain has a return_path (domains, or "
            "mail-gateway domain) or smtp.feedback names an address"
        )
    domains = top.get("domains")
    if named and not listening and domains is not None:
        domains.warning("no listener has role: return_path, so bounces must come to another host and are not heard of")


def _bare_newlines(value: Value) -> BareNewlines | None:
    return value.one_of(BareNewlines)


def _networks(value: Value) -> tuple[tuple[Network, str], ...]:
    """The key's name of each network; it may be declared here or be in the store."""
    found = []
    for name, key in value.section().rest():
        try:
            network = grammar.network(name)
        except ValueError as error:
            key.problem(str(error))
            continue
        key_name = key.parsed(grammar.name)
        if key_name is not None:
            found.append((network, key_name))
    return tuple(found)


def _refuse_open_relay(listener: SmtpListener, section: Section) -> None:
    if listener.auth is Auth.REQUIRED:
        return
    networks = section.get("networks")
    if networks is None or not networks.node.value:
        section.value.problem("without authentication anybody could send: give networks, or auth: required")
        return
    for network, _ in listener.networks:
        if grammar.is_open(network):
            networks.problem(f"{network} is full of strangers, who could all send: name your own, or auth: required")


def check_listeners(bound: Sequence[Bound], *, has_certificate: bool) -> None:
    """What only shows beside the others: an address that is taken, a certificate that is missing."""
    for number, listener in enumerate(bound):
        if any(_collide(listener.listen, earlier.listen) for earlier in bound[:number]):
            listener.value.problem(f"two listeners on {listener.listen}")
        if listener.tls is not ListenerTls.NONE and not has_certificate:
            listener.value.problem("has TLS, and tls: {certificate, key} is not given")


def _collide(one: Listen, other: Listen) -> bool:
    if one.port != other.port or one.port == 0 or (":" in one.host) != (":" in other.host):
        return False
    return one.host == other.host or bool({one.host, other.host} & {"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
