"""The routes: by MX lookup, through a relay, or captured."""

import ssl
from typing import Final

from gateway.config import CaptureRoute, HopTls, IpFamily, MxRoute, RelayRoute, Route, Signing, Tls
from gateway.configfile import grammar, listeners
from gateway.configfile.sources import Sources
from gateway.yamltree import Section, Value

_RELAY_PORTS: Final = {HopTls.NONE: 25, HopTls.OPPORTUNISTIC: 25, HopTls.STARTTLS: 587, HopTls.IMPLICIT: 465}
_OLD_TLS: Final = frozenset({"1.0", "1.1"})
_NOT_VERIFIED: Final = frozenset({HopTls.NONE, HopTls.OPPORTUNISTIC})  # and so not safe from a listener in between


def read_routes(value: Value, sources: Sources) -> tuple[dict[str, Route], frozenset[str]]:
    """(routes that can be used, names of all).

    Who refers to a route that cannot be used makes no second mistake.
    """
    routes: dict[str, Route] = {}
    given = dict(value.section().rest())
    for name, child in given.items():
        try:
            grammar.name(name)
        except ValueError as error:
            child.problem(str(error))
        route = _route(name, child, sources)
        if route is not None:
            routes[name] = route
    return routes, frozenset(given)


def _route(name: str, value: Value, sources: Sources) -> Route | None:
    section = value.section()
    kind_value = section.require("type")
    kind = kind_value.text() if kind_value is not None else None
    match kind:
        case "mx":
            route: Route = _mx_route(name, section, sources)
        case "relay":
            route = _relay_route(name, section, sources)
        case "capture":
            route = CaptureRoute(name)
        case "chain":
            value.problem("a route of type chain is not available in this version")
            return None
        case _:
            if kind_value is not None:
                kind_value.problem("must be mx, relay or capture")
            return None
    section.close()
    return route


def _mx_route(name: str, section: Section, sources: Sources) -> MxRoute:
    section.later("limits")
    default = MxRoute(name)
    route = MxRoute(
        name,
        port=section.parsed("port", grammar.port, default.port),
        tls=section.one_of("tls", default.tls),
        ehlo=section.parsed("ehlo", grammar.host_name, None),
        source=section.parsed("source", grammar.ip, None),
        ip_family=section.one_of("ip_family", default.ip_family),
        dkim=section.one_of("dkim", default.dkim),
        min_tls=section.parsed("min_tls", grammar.tls_version, default.min_tls),
        certificate=_certificate(section, sources),
        mta_sts=section.take("mta_sts", Value.boolean, default.mta_sts),
        dane=section.take("dane", Value.boolean, default.dane),
    )
    if route.tls is HopTls.IMPLICIT:
        section.value.problem("MX hosts do not speak implicit TLS: tls is none, opportunistic or starttls")
    _check_source(section, route)
    _check_tls(section, route)
    for policy, wanted in (("mta_sts", route.mta_sts), ("dane", route.dane)):
        given = section.get(policy)
        if given is not None and wanted and route.tls is HopTls.NONE:
            given.problem("has no effect: with tls: none nobody's policy is looked at")
    return route


def _relay_route(name: str, section: Section, sources: Sources) -> RelayRoute:
    section.later("limits")
    section.require("host")
    tls = section.one_of("tls", HopTls.STARTTLS)
    route = RelayRoute(
        name,
        host=section.parsed("host", grammar.host_or_ip, "localhost"),
        port=section.parsed("port", grammar.port, _RELAY_PORTS[tls]),
        tls=tls,
        verify=section.take("verify", Value.boolean, True),
        ca=section.take("ca", sources.file, None),
        username=section.take("username", Value.text, None),
        password=section.take("password", sources.secret, None),
        ehlo=section.parsed("ehlo", grammar.host_name, None),
        source=section.parsed("source", grammar.ip, None),
        ip_family=section.one_of("ip_family", IpFamily.AUTO),
        dkim=section.one_of("dkim", Signing.RSA),
        min_tls=section.parsed("min_tls", grammar.tls_version, "1.2"),
        certificate=_certificate(section, sources),
    )
    _check_source(section, route)
    _check_tls(section, route)
    _check_trust(section, route)
    _check_credentials(section, route)
    return route


def _certificate(section: Section, sources: Sources) -> Tls | None:
    """The client's: two files, the key as private as a secret."""
    return section.take("certificate", lambda value: listeners.read_tls(value, sources), None)


def _check_tls(section: Section, route: MxRoute | RelayRoute) -> None:
    lowest = section.get("min_tls")
    if lowest is not None and route.min_tls in _OLD_TLS:
        lowest.warning(f"TLS {route.min_tls} has been broken: use it for hosts that know nothing better")
    for setting in (lowest, section.get("certificate")):
        if setting is not None and route.tls is HopTls.NONE:
            setting.problem("has no effect: tls is none")


def _check_source(section: Section, route: MxRoute | RelayRoute) -> None:
    source = section.get("source")
    if source is None or route.source is None or route.ip_family is IpFamily.AUTO:
        return
    if (":" in route.source) != (route.ip_family is IpFamily.IPV6):
        source.problem(f"no connection could be made: {route.source} is not of ip_family {route.ip_family}")


def _check_trust(section: Section, route: RelayRoute) -> None:
    ca = section.get("ca")
    if ca is None or route.ca is None:
        return
    if not route.verify or route.tls in _NOT_VERIFIED:
        ca.problem("has no effect: the certificate is checked with verify: true and tls: starttls or implicit")
    try:
        ssl.create_default_context(cafile=str(route.ca))
    except (OSError, ValueError) as error:
        ca.problem(f"{route.ca} holds no certificate in PEM: {getattr(error, 'reason', None) or error}")


def _check_credentials(section: Section, route: RelayRoute) -> None:
    username, password = section.get("username"), section.get("password")
    if (username is None) != (password is None):
        section.value.problem("username and password go together")
    if password is None or grammar.is_loopback(route.host):
        return
    if route.tls in _NOT_VERIFIED:
        password.problem("the password could travel in clear: set tls: starttls or implicit")
    elif not route.verify:
        password.warning("anybody in between could take the password: verify is false")
