"""From the YAML file to the `Config` tree: every key, every check, every problem at once.

`read_config` is what both `config.load` and `config.check` use, so a start and a check never disagree. Secrets are read
here (environment, file, systemd credential); a file with secrets that others can read is refused.
"""

import ipaddress
import os
import re
import ssl
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway import config as tree
from gateway import yamltree
from gateway.errors import ConfigError, Problem
from gateway.yamltree import Section, Value

MIN_SECRET: Final = 22  # characters: 128 bits in base 62
SCOPES: Final = ("send", "read", "manage", "admin")
_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATTERN: Final = re.compile(r"\*|[^@\s]+@(\*\.)?[A-Za-z0-9.-]+", re.ASCII)
_RELAY_PORTS: Final = {
    tree.HopTls.NONE: 25,
    tree.HopTls.OPPORTUNISTIC: 25,
    tree.HopTls.STARTTLS: 587,
    tree.HopTls.IMPLICIT: 465,
}


def parse_listen(text: str) -> tree.Listen:
    """`host:port`, an IPv6 host in brackets. ValueError says what is wrong."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or not re.fullmatch(r"\d{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address like 127.0.0.1:2525 or [::1]:2525")
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        if bracketed or not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is neither an IP address nor a host name") from None
    else:
        if literal.version == 6 and not bracketed:
            raise ValueError(f"write an IPv6 address in brackets: [{host}]:{port}")
    return tree.Listen(host, int(port))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Reader:
    """Reads one file; `problems` stop a start, `warnings` do not."""

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._data_dir = tree.Config().data_dir
        self._inline_secret: Value | None = None
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def read(self, text: str) -> tree.Config:
        """The configuration; what could not be read has its default, and is in `problems`."""
        default = tree.Config(path=self._path)
        root = yamltree.read(text, self.problems)
        if root is None:
            return default
        top = root.section()
        top.later("local", "pass_through", "dialects", "templates")
        if (value := top.get("data_dir")) and (directory := value.text()):
            self._data_dir = Path(directory)
        routes = self._routes(top.get("routes")) or default.routes
        config = replace(
            default,
            hostname=_of(top.get("hostname"), lambda v: v.parsed(_host_name), default.hostname),
            data_dir=self._data_dir,
            database=_of(top.get("store"), self._store, default.database),
            max_message=_of(top.get("max_message"), lambda v: v.parsed(_positive_size), default.max_message),
            tls=_of(top.get("tls"), self._tls, None),
            http=_of(top.get("http"), self._http, default.http),
            smtp=_of(top.get("smtp"), self._smtp, default.smtp),
            limits=_of(top.get("limits"), self._limits, default.limits),
            dns=_of(top.get("dns"), self._dns, default.dns),
            routes=routes,
            default_route=_of(top.get("default_route"), Value.text, default.default_route),
            domains=_of(top.get("domains"), self._domains, {}),
            keys=_of(top.get("keys"), lambda v: self._keys(v, routes), {}),
            delivery=_of(top.get("delivery"), self._delivery, default.delivery),
            retention=_of(top.get("retention"), self._retention, default.retention),
            log=_of(top.get("log"), self._log, default.log),
        )
        top.close()
        self._cross_check(config, top)
        return config

    # One method a section; each returns None where nothing usable was read, and the default stands.

    def _store(self, value: Value) -> Path | None:
        section = value.section()
        url = section.get("url")
        section.close()
        text = url.text() if url else None
        if url is None or text is None:
            return None
        if text.startswith(("postgresql:", "postgres:")):
            url.problem("PostgreSQL is not available in this version")
            return None
        name = text.removeprefix("sqlite:")
        if name == text or not name:
            url.problem('must be "sqlite:FILE"')
            return None
        return Path(name)

    def _tls(self, value: Value) -> tree.Tls | None:
        section = value.section()
        certificate, key = section.require("certificate"), section.require("key")
        section.close()
        if certificate is None or key is None:
            return None
        chain, private = self._file(certificate), self._file(key)
        if chain is None or private is None:
            return None
        self._refuse_readable_by_others(key, private)
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(chain, private)
        except (OSError, ssl.SSLError) as error:
            certificate.problem(
                f"certificate and key cannot be used together: {getattr(error, 'reason', None) or error}"
            )
            return None
        return tree.Tls(chain, private)

    def _http(self, value: Value) -> tree.Http | None:
        section = value.section()
        section.later("admin", "public_url", "trusted_proxies")
        listeners = section.get("listeners")
        section.close()
        if listeners is None:
            return None
        return tree.Http(tuple(self._http_listener(item) for item in listeners.items()))

    def _http_listener(self, value: Value) -> tree.HttpListener:
        section = value.section()
        default = tree.HttpListener()
        listener = tree.HttpListener(
            listen=_of(section.require("listen"), lambda v: v.parsed(parse_listen), default.listen),
            tls=_of(section.get("tls"), lambda v: v.one_of(tree.ListenerTls), default.tls),
            insecure=_of(section.get("insecure"), Value.boolean, default.insecure),
        )
        section.close()
        if listener.tls is tree.ListenerTls.STARTTLS:
            value.problem("HTTP has no STARTTLS: tls is none or implicit")
        if listener.tls is tree.ListenerTls.NONE and not listener.insecure and not is_loopback(listener.listen.host):
            value.problem(
                "keys would travel in clear: set tls: implicit, or insecure: true where a proxy in front has TLS"
            )
        return listener

    def _smtp(self, value: Value) -> tree.Smtp | None:
        section = value.section()
        listeners = section.get("listeners")
        section.close()
        if listeners is None:
            return None
        return tree.Smtp(tuple(self._smtp_listener(item) for item in listeners.items()))

    def _smtp_listener(self, value: Value) -> tree.SmtpListener:
        section = value.section()
        default = tree.SmtpListener()
        section.later("role", "hide_client")
        networks = section.get("networks")
        listener = tree.SmtpListener(
            listen=_of(section.require("listen"), lambda v: v.parsed(parse_listen), default.listen),
            tls=_of(section.get("tls"), lambda v: v.one_of(tree.ListenerTls), default.tls),
            auth=_of(section.get("auth"), lambda v: v.one_of(tree.Auth), default.auth),
            min_tls=_of(section.get("min_tls"), lambda v: v.parsed(_tls_version), default.min_tls),
            plaintext_auth=_of(section.get("plaintext_auth"), Value.boolean, None),
            bare_newlines=_of(section.get("bare_newlines"), lambda v: v.one_of(tree.BareNewlines), None),
            networks=self._networks(networks) if networks else (),
        )
        section.close()
        if listener.auth is not tree.Auth.REQUIRED and not listener.networks:
            value.problem("without authentication anybody could send: give networks, or auth: required")
        return listener

    def _networks(self, value: Value) -> tuple[tuple[tree.Network, str], ...]:
        found = []
        for name, key in value.section().rest():
            try:
                network = ipaddress.ip_network(name)
            except ValueError as error:
                key.problem(f"not a network: {error}")
                continue
            text = key.text()
            if text:
                found.append((network, text))
        return tuple(found)

    def _limits(self, value: Value) -> tree.Limits:
        section = value.section()
        section.later("batch", "auth_failures", "buffers", "backlog", "free_disk")
        limits = _integers(
            section, tree.Limits(), "recipients_per_message", "attachments", "connections_per_ip", "connections"
        )
        section.close()
        return limits

    def _dns(self, value: Value) -> tree.Dns | None:
        section = value.section()
        nameservers = section.get("nameservers")
        section.close()
        if nameservers is None:
            return None
        servers = [item.parsed(_nameserver) for item in nameservers.items()]
        return tree.Dns(tuple(server for server in servers if server is not None))

    def _routes(self, value: Value | None) -> dict[str, tree.Route]:
        routes: dict[str, tree.Route] = {}
        if value is None:
            return routes
        for name, child in value.section().rest():
            if not _NAME.fullmatch(name):
                child.problem("a route's name is made of letters, digits, dots, hyphens and underscores")
            route = self._route(name, child)
            if route is not None:
                routes[name] = route
        return routes

    def _route(self, name: str, value: Value) -> tree.Route | None:
        section = value.section()
        kind_value = section.require("type")
        kind = kind_value.text() if kind_value else None
        match kind:
            case "mx":
                route: tree.Route | None = self._mx_route(name, section)
            case "relay":
                route = self._relay_route(name, section)
            case "capture":
                route = tree.CaptureRoute(name)
            case "chain":
                value.problem("a route of type chain is not available in this version")
                return None
            case _:
                if kind_value is not None:
                    kind_value.problem("must be mx, relay or capture")
                return None
        section.close()
        return route

    def _mx_route(self, name: str, section: Section) -> tree.MxRoute:
        section.later("limits")
        default = tree.MxRoute(name)
        port = section.get("port")
        tls = _of(section.get("tls"), lambda v: v.one_of(tree.HopTls), default.tls)
        if tls is tree.HopTls.IMPLICIT:
            section.value.problem("MX hosts do not speak implicit TLS: tls is none, opportunistic or starttls")
        return tree.MxRoute(
            name,
            port=_of(port, lambda v: v.parsed(_port), default.port),
            tls=tls,
            ehlo=_of(section.get("ehlo"), lambda v: v.parsed(_host_name), None),
            source=_of(section.get("source"), lambda v: v.parsed(_ip), None),
            ip_family=_of(section.get("ip_family"), lambda v: v.one_of(tree.IpFamily), default.ip_family),
            dkim=_of(section.get("dkim"), lambda v: v.one_of(tree.Signing), default.dkim),
        )

    def _relay_route(self, name: str, section: Section) -> tree.RelayRoute:
        section.later("limits", "mx", "weights", "oauth", "client_certificate", "min_tls")
        host = _of(section.require("host"), lambda v: v.parsed(_host_or_ip), "localhost")
        tls = _of(section.get("tls"), lambda v: v.one_of(tree.HopTls), tree.HopTls.STARTTLS)
        username, password = section.get("username"), section.get("password")
        ca = section.get("ca")
        route = tree.RelayRoute(
            name,
            host=host,
            port=_of(section.get("port"), lambda v: v.parsed(_port), _RELAY_PORTS[tls]),
            tls=tls,
            verify=_of(section.get("verify"), Value.boolean, True),
            ca=self._file(ca) if ca else None,
            username=username.text() if username else None,
            password=self._secret(password) if password else None,
            ehlo=_of(section.get("ehlo"), lambda v: v.parsed(_host_name), None),
            source=_of(section.get("source"), lambda v: v.parsed(_ip), None),
            ip_family=_of(section.get("ip_family"), lambda v: v.one_of(tree.IpFamily), tree.IpFamily.AUTO),
            dkim=_of(section.get("dkim"), lambda v: v.one_of(tree.Signing), tree.Signing.RSA),
        )
        if (username is None) != (password is None):
            section.value.problem("username and password go together")
        in_clear = tls in {tree.HopTls.NONE, tree.HopTls.OPPORTUNISTIC} and not is_loopback(host)
        if password is not None and in_clear:
            password.problem("the password could travel in clear: set tls: starttls or implicit")
        return route

    def _domains(self, value: Value) -> dict[str, tree.Domain]:
        domains = {}
        for name, child in value.section().rest():
            section = child.section()
            section.later("return_path")
            if not _HOST.fullmatch(name) or name != name.lower():
                child.problem("a domain is written in lower case, an international one as its A-label (xn--…)")
            dkim = section.get("dkim")
            keys = [self._dkim_key(item) for item in dkim.items()] if dkim else []
            if dkim and len(keys) > 1:
                dkim.problem("several DKIM keys of a domain are not available in this version")
            domains[name] = tree.Domain(
                name,
                dkim=tuple(key for key in keys if key is not None),
                require_dkim=_of(section.get("require_dkim"), Value.boolean, False),
            )
            section.close()
        return domains

    def _dkim_key(self, value: Value) -> tree.DkimKey | None:
        section = value.section()
        selector, file = section.require("selector"), section.require("key")
        section.close()
        name = selector.parsed(_selector) if selector else None
        path = self._file(file) if file else None
        if name is None or file is None or path is None:
            return None
        self._refuse_readable_by_others(file, path)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            file.problem(f"{path} holds no usable private key in PEM: {type(error).__name__}")
            return None
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 2048:
            file.problem("a DKIM key is RSA of at least 2048 bits in this version")
            return None
        return tree.DkimKey(name, path)

    def _keys(self, value: Value, routes: Mapping[str, tree.Route]) -> dict[str, tree.KeyConfig]:
        keys: dict[str, tree.KeyConfig] = {}
        seen: dict[str, str] = {}
        for name, child in value.section().rest():
            if not _NAME.fullmatch(name):
                child.problem("a key's name is made of letters, digits, dots, hyphens and underscores")
            key = self._key(name, child, routes)
            if key is None:
                continue
            other = seen.setdefault(key.secret.value, name)
            if other != name:
                child.problem(f"has the same secret as {other}")
            keys[name] = key
        return keys

    def _key(self, name: str, value: Value, routes: Mapping[str, tree.Route]) -> tree.KeyConfig | None:
        section = value.section()
        section.later(
            "limits", "mode", "default_domain", "aliases", "rewrite_from", "track", "dsn", "duplicates", "ip", "expires"
        )
        secret_value = section.require("secret")
        secret = self._secret(secret_value) if secret_value else None
        if secret_value and secret and len(secret.value) < MIN_SECRET:
            secret_value.problem(f"a key has at least {MIN_SECRET} characters")
        account, route, default_from = section.get("account"), section.get("route"), section.get("default_from")
        route_name = route.text() if route else None
        if route and route_name and route_name not in routes:
            route.problem(f"there is no route {route_name}")
        senders, scopes = section.get("from"), section.get("scopes")
        patterns = [item.parsed(_sender_pattern) for item in senders.items()] if senders else []
        wanted = [item.parsed(_scope) for item in scopes.items()] if scopes else ["send", "read"]
        section.close()
        if secret is None:
            return None
        return tree.KeyConfig(
            name,
            secret=secret,
            account=(account.text() if account else None) or name,
            route=route_name,
            senders=tuple(pattern for pattern in patterns if pattern),
            scopes=tuple(scope for scope in wanted if scope),
            default_from=default_from.parsed(_plain_address) if default_from else None,
        )

    def _delivery(self, value: Value) -> tree.Delivery:
        section = value.section()
        section.later("destinations")
        default = tree.Delivery()
        retry = section.get("retry")
        steps = [item.duration() for item in retry.items()] if retry else []
        if retry and not steps:
            retry.problem("needs at least one pause")
        concurrency = section.get("concurrency")
        delivery = replace(
            _integers(section, default, "messages_per_connection", "connections", "max_hops"),
            retry_s=tuple(step for step in steps if step) or default.retry_s,
            expire_after_s=_of(section.get("expire_after"), Value.duration, default.expire_after_s),
            timeouts=_of(section.get("timeouts"), _timeouts, default.timeouts),
        )
        if concurrency is not None:
            inner = concurrency.section()
            delivery = replace(
                delivery,
                concurrency_initial=_of(inner.get("initial"), Value.integer, default.concurrency_initial),
                concurrency=_of(inner.get("maximum"), Value.integer, default.concurrency),
            )
            inner.close()
            if delivery.concurrency_initial > delivery.concurrency:
                concurrency.problem("initial is more than maximum")
        section.close()
        return delivery

    def _retention(self, value: Value) -> tree.Retention:
        section = value.section()
        default = tree.Retention()
        content = section.get("content")
        delivered, failed = default.content_delivered_s, default.content_failed_s
        if content is not None:
            inner = content.section()
            delivered = _of(inner.get("delivered"), _not_negative, delivered)
            failed = _of(inner.get("failed"), _not_negative, failed)
            inner.close()
        retention = tree.Retention(
            content_delivered_s=delivered,
            content_failed_s=failed,
            messages_s=_of(section.get("messages"), Value.duration, default.messages_s),
            events_s=_of(section.get("events"), Value.duration, default.events_s),
        )
        section.close()
        return retention

    def _log(self, value: Value) -> tree.Log:
        section = value.section()
        log = tree.Log(
            level=_of(section.get("level"), lambda v: v.parsed(_log_level), "info"),
            format=_of(section.get("format"), lambda v: v.parsed(_log_format), "text"),
        )
        section.close()
        return log

    # Files and secrets

    def _file(self, value: Value) -> Path | None:
        """A readable file, relative to the data directory."""
        text = value.text()
        if not text:
            return None
        path = self._data_dir / text
        try:
            with path.open("rb"):
                return path
        except OSError as error:
            value.problem(f"{path} cannot be read: {error.strerror}")
            return None

    def _secret(self, value: Value) -> tree.Secret | None:
        """`{env: NAME}`, `{file: PATH}`, `{credential: NAME}` or, with a warning, the text itself."""
        if not value.is_mapping:
            text = value.text()
            if text:
                self._inline_secret = self._inline_secret or value
                warning = "a secret in the file itself; better {env: NAME}, {file: PATH} or {credential: NAME}"
                self.warnings.append(Problem(value.path, warning, line=value.line))
            return tree.Secret(text) if text else None
        section = value.section()
        sources = {name: section.get(name) for name in ("env", "file", "credential")}
        section.close()
        given = [(name, source) for name, source in sources.items() if source is not None]
        if len(given) != 1:
            value.problem("give one of env, file or credential")
            return None
        return self._secret_from(*given[0])

    def _secret_from(self, kind: str, source: Value) -> tree.Secret | None:
        name = source.text()
        if not name:
            return None
        if kind == "env":
            if not self._environ.get(name):
                source.problem(f"the environment variable {name} is not set")
                return None
            return tree.Secret(self._environ[name])
        if kind == "credential":
            directory = self._environ.get("CREDENTIALS_DIRECTORY")
            if not directory:
                source.problem("there is no $CREDENTIALS_DIRECTORY: credentials are given by systemd (LoadCredential=)")
                return None
            path = Path(directory) / name
        else:
            path = self._data_dir / name
        try:
            text = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            source.problem(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not text'}")
            return None
        self._refuse_readable_by_others(source, path)
        if not text:
            source.problem(f"{path} is empty")
            return None
        return tree.Secret(text)

    def _refuse_readable_by_others(self, value: Value, path: Path) -> None:
        exempt = [Path("/run/secrets")]
        if directory := self._environ.get("CREDENTIALS_DIRECTORY"):
            exempt.append(Path(directory))
        if any(path.is_relative_to(one) for one in exempt):
            return
        if stat.S_IMODE(path.stat().st_mode) & 0o007:
            value.problem(f"{path} holds a secret and others can read it: chmod 640 {path}")

    # What only shows when everything is read

    def _cross_check(self, config: tree.Config, top: Section) -> None:
        if config.default_route not in config.routes:
            (top.get("default_route") or top.value).problem(
                f"default_route: there is no route {config.default_route}"
                if not top.get("default_route")
                else f"there is no route {config.default_route}"
            )
        everywhere: list[tree.HttpListener | tree.SmtpListener] = [*config.http.listeners, *config.smtp.listeners]
        listeners = [listener.listen for listener in everywhere]
        for listen in {one for one in listeners if one.port and listeners.count(one) > 1}:
            top.value.problem(f"two listeners on {listen}")
        encrypted = [listener for listener in everywhere if listener.tls != "none"]
        if encrypted and config.tls is None:
            top.value.problem(
                f"the listener on {encrypted[0].listen} has TLS, and tls: {{certificate, key}} is not given"
            )
        for listener in config.smtp.listeners:
            for _, key in listener.networks:
                if key not in config.keys:
                    warning = f"the key {key} of networks is not declared here; it must exist in the store"
                    self.warnings.append(Problem("smtp.listeners", warning))
        if self._inline_secret is not None and self._path is not None:
            self._refuse_readable_by_others(self._inline_secret, self._path)


T = TypeVar("T")


def _of(value: Value | None, read: Callable[[Value], T | None], default: T) -> T:
    if value is None:
        return default
    result = read(value)
    return default if result is None else result


D = TypeVar("D", tree.Limits, tree.Delivery)


def _integers(section: Section, default: D, *names: str) -> D:
    """The default with the whole numbers that are given."""
    given: dict[str, Any] = {}
    for name in names:
        value = section.get(name)
        number = value.integer() if value is not None else None
        if number is not None:
            given[name] = number
    return replace(default, **given)


def _timeouts(value: Value) -> tree.Timeouts:
    section = value.section()
    names = ("connect", "greeting", "command", "data_start", "data_block", "data_end")
    given = {f"{name}_s": child.duration() for name in names if (child := section.get(name)) is not None}
    section.close()
    return replace(tree.Timeouts(), **{name: seconds for name, seconds in given.items() if seconds is not None})


def _not_negative(value: Value) -> float | None:
    return value.duration(least=0)


def _checked(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return check


_host_name = _checked(_HOST, "a host name")
_selector = _checked(_HOST, "a DKIM selector")
_sender_pattern = _checked(_PATTERN, "an address or a pattern like *@example.com")
_plain_address = _checked(re.compile(r"[^@]+@[A-Za-z0-9.-]+>?"), "an address like shop@example.com")
_scope = _checked(re.compile("|".join(SCOPES)), f"one of {', '.join(SCOPES)}")
_tls_version = _checked(re.compile(r"1\.[0-3]"), "1.0, 1.1, 1.2 or 1.3")
_log_level = _checked(re.compile("debug|info|warning|error"), "debug, info, warning or error")
_log_format = _checked(re.compile("text|json"), "text or json")


def _host_or_ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return _host_name(text)


def _ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def _nameserver(text: str) -> tree.Listen:
    """An IP address, with a port or without."""
    try:
        return tree.Listen(_ip(text), 53)
    except ValueError:
        listen = parse_listen(text)
    return tree.Listen(_ip(listen.host), listen.port)


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError(f"{text!r} is not a port")
    return int(text)


def _positive_size(text: str) -> int:
    size = yamltree.size_bytes(text)
    if size < 1024:
        raise ValueError("must be at least 1KB")
    return size


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> tree.Config:
    """The configuration of a file (None: the default place). Raises ConfigError with every problem."""
    config, problems, _ = read_config(path or tree.default_path(), environ)
    if problems:
        raise ConfigError(problems)
    return config


def read_config(
    path: Path, environ: Mapping[str, str] = os.environ
) -> tuple[tree.Config, tuple[Problem, ...], tuple[Problem, ...]]:
    """(configuration, problems, warnings) of a file, in the order of its lines."""
    reader = Reader(path, environ)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        return tree.Config(), (Problem("", f"{path} cannot be read: {reason}"),), ()
    config = reader.read(text)
    return config, tuple(sorted(reader.problems, key=_line)), tuple(sorted(reader.warnings, key=_line))


def _line(problem: Problem) -> int:
    return problem.line or 0
