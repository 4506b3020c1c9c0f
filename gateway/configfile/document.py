"""The whole document: its top-level keys, and what only shows when all of them are read."""

import re
import socket
from collections.abc import Set as AbstractSet
from pathlib import Path

from gateway import config as tree
from gateway.configfile import (
    agreement,
    delivery,
    domains,
    grammar,
    keys,
    listeners,
    local,
    passthrough,
    routes,
    suppression,
    webhooks,
)
from gateway.configfile.listeners import Bound
from gateway.configfile.sources import Sources
from gateway.errors import Problem
from gateway.keyterms import Limit, Unit
from gateway.yamltree import Section, Value


def read_document(root: Value, sources: Sources, hostname: str | None = None) -> tree.Config:
    """The configuration; what could not be read has its default, and is in the findings. `hostname` is the name where
    none is given; None: the machine's own."""
    top = root.section()
    data_dir = sources.take_data_dir(top)
    bound: list[Bound] = []
    default_routes = tree.default_routes()
    ways, known_routes = top.take(
        "routes", lambda value: routes.read_routes(value, sources), (default_routes, frozenset(default_routes))
    )
    declared = top.take("keys", lambda value: keys.read_keys(value, sources, known_routes), {})
    local_key, local_socket = top.take(
        "local", lambda value: local.read_local(value, top.get("keys"), declared), (None, None)
    )
    config = tree.Config(
        hostname=_hostname(top, hostname),
        data_dir=data_dir,
        database=top.take("store", _database, tree.DATABASE),
        max_message=top.parsed("max_message", grammar.message_size, tree.MAX_MESSAGE),
        tls=top.take("tls", lambda value: listeners.read_tls(value, sources), None),
        http=top.take("http", lambda value: listeners.read_http(value, bound), None)
        or listeners.default_http(root, bound),
        smtp=top.take("smtp", lambda value: listeners.read_smtp(value, bound), None) or _default_smtp(root, bound),
        limits=top.take("limits", _limits, tree.Limits()),
        dns=top.take("dns", _dns, tree.Dns()),
        routes=ways,
        default_route=top.take("default_route", Value.text, tree.DEFAULT_ROUTE),
        domains=top.take("domains", lambda value: domains.read_domains(value, sources), {}),
        keys=declared,
        delivery=top.take("delivery", delivery.read_delivery, tree.Delivery()),
        retention=top.take("retention", delivery.read_retention, tree.Retention()),
        suppression=top.take("suppression", suppression.read_suppression, tree.Suppression()),
        webhooks=top.take("webhooks", webhooks.read_webhooks, tree.Webhooks()),
        simulator=top.parsed("simulator", grammar.domain, None),
        pass_through=top.take("pass_through", passthrough.read_pass_through, tree.PassThrough()),
        dialects=top.take("dialects", _dialects, tree.Dialects()),
        templates=top.take("templates", sources.directory, None),
        local_key=local_key,
        local_socket=local_socket,
        log=top.take("log", _log, tree.Log()),
        path=sources.path,
    )
    top.close()
    _check_default_route(top, config, known_routes)
    listeners.check_listeners(bound, has_certificate=top.get("tls") is not None)
    listeners.check_return_path(top, config)
    agreement.check(top, config)
    sources.close()
    return config


def _hostname(top: Section, known: str | None) -> str:
    """What is given, or the machine's own name, asked for where it is not known; one that no EHLO could carry must be
    given."""
    if top.get("hostname") is not None:
        return top.parsed("hostname", grammar.host_name, "localhost")
    found = known or socket.getfqdn()
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", found, re.ASCII):
        absent = Value(top.value.node, "hostname", top.value.findings)
        absent.problem(f"this machine's own name, {found!r}, is not a host name: give one")
    elif "." not in found:
        text = f"this machine's own name, {found}, has no domain: receivers may refuse it; give the full name"
        top.value.findings.warnings.append(Problem("hostname", text))
    return found


def _database(value: Value) -> Path | None:
    section = value.section()
    url = section.get("url")
    text = section.take("url", Value.text, None)
    section.close()
    if url is None or text is None:
        return None
    if text.startswith(("postgresql:", "postgres:")):
        url.problem("PostgreSQL is not available in this version")
        return None
    name = text.removeprefix("sqlite:")
    if name == text or not name or name.endswith(("/", ":memory:")):
        url.problem('must be "sqlite:FILE"')
        return None
    return Path(name)


def _default_smtp(root: Value, bound: list[Bound]) -> tree.Smtp:
    smtp = tree.Smtp()
    place = Value(root.node, "smtp.listeners", root.findings)
    bound.extend(Bound(listener.listen, listener.tls, place) for listener in smtp.listeners)
    return smtp


def _limits(value: Value) -> tree.Limits:
    section = value.section()
    default = tree.Limits()
    messages, size = section.take("backlog", _backlog, (default.backlog_messages, default.backlog_bytes))
    found = tree.Limits(
        recipients_per_message=section.take("recipients_per_message", Value.integer, default.recipients_per_message),
        batch=section.take("batch", Value.integer, default.batch),
        attachments=section.take("attachments", Value.integer, default.attachments),
        connections_per_ip=section.take("connections_per_ip", Value.integer, default.connections_per_ip),
        connections=section.take("connections", Value.integer, default.connections),
        auth_failures=section.parsed("auth_failures", _failures, default.auth_failures),
        buffers=section.parsed("buffers", grammar.buffers_size, default.buffers),
        backlog_messages=messages,
        backlog_bytes=size,
        free_disk=section.parsed("free_disk", grammar.free_disk_size, default.free_disk),
    )
    section.close()
    return found


def _backlog(value: Value) -> tuple[int, int]:
    section = value.section()
    default = tree.Limits()
    messages = section.take("messages", Value.integer, default.backlog_messages)
    size = section.parsed("bytes", grammar.backlog_size, default.backlog_bytes)
    section.close()
    return messages, size


def _failures(text: str) -> Limit:
    count, period_s = grammar.rate(text)
    return Limit(Unit.REQUESTS, count, period_s, burst=count)


def _dns(value: Value) -> tree.Dns:
    section = value.section()
    dns = tree.Dns(
        nameservers=tuple(section.each("nameservers", grammar.nameserver)),
        trust_ad=section.take("trust_ad", Value.boolean, None),
    )
    section.close()
    return dns


def _dialects(value: Value) -> tree.Dialects:
    section = value.section()
    dialects = tree.Dialects(
        disabled=frozenset(section.each("disabled", grammar.dialect)),
        sendmux_success_status=section.take("sendmux", _sendmux, tree.Dialects().sendmux_success_status),
    )
    section.close()
    return dialects


def _sendmux(value: Value) -> int:
    section = value.section()
    status = section.parsed("success_status", grammar.success_status, tree.Dialects().sendmux_success_status)
    section.close()
    return status


def _log(value: Value) -> tree.Log:
    section = value.section()
    default = tree.Log()
    log = tree.Log(
        level=section.parsed("level", grammar.log_level, default.level),
        format=section.parsed("format", grammar.log_format, default.format),
        addresses=section.parsed("addresses", grammar.log_addresses, default.addresses),
    )
    section.close()
    return log


def _check_default_route(top: Section, config: tree.Config, known: AbstractSet[str]) -> None:
    if config.default_route not in known:
        routes_value = top.get("routes")
        line = routes_value.line if routes_value is not None else None
        place = top.get("default_route") or Value(top.value.node, "default_route", top.value.findings, line)
        place.problem(f"there is no route {config.default_route}")
