"""The configuration that is in force, as a file would say it: every value, defaults too, secrets masked.

Guarantees: without secrets in it, what is shown reads back as the same configuration. Files are shown with their whole
path.
"""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from gateway.config import (
    CaptureRoute,
    Config,
    Delivery,
    Dialects,
    HopTls,
    HttpListener,
    KeyConfig,
    Limits,
    ListenerTls,
    MxRoute,
    PassThrough,
    RelayRoute,
    Retention,
    Role,
    Route,
    SmtpListener,
    Suppression,
    Tls,
    Webhooks,
)
from gateway.configfile import notifications
from gateway.configfile.suppression import NEVER
from gateway.keyterms import Brakes, KeyRetention, Limit

_UNITS: Final = (("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
_TRACK: Final = (("opens", 1), ("clicks", 2), ("text", 4))  # those of message/model.py
_SIZES: Final = (("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000))


def show(config: Config) -> str:
    """YAML of the whole configuration, in the order and with the words of etc/gateway.yaml."""
    return yaml.safe_dump(_tree(config), sort_keys=False, allow_unicode=True, width=120)


def _tree(config: Config) -> dict[str, Any]:
    return _given(
        {
            "hostname": config.hostname,
            "data_dir": str(config.data_dir),
            "store": {"url": f"sqlite:{config.database}"},
            "max_message": _size(config.max_message),
            "tls": config.tls and _tls(config.tls),
            "http": _given(
                {
                    "listeners": [_http_listener(listener) for listener in config.http.listeners],
                    "admin": "off" if config.http.admin is None else str(config.http.admin),
                    "trusted_proxies": [str(network) for network in config.http.trusted_proxies],
                    "public_url": config.http.public_url,
                }
            ),
            "smtp": {
                "listeners": [_smtp_listener(listener, config.tls) for listener in config.smtp.listeners],
                "feedback": list(config.smtp.feedback),
            },
            "limits": _limits(config.limits),
            "dns": _given(
                {
                    "nameservers": [str(server) for server in config.dns.nameservers],
                    "trust_ad": config.dns.trust_ad,
                }
            ),
            "routes": {name: _route(route) for name, route in config.routes.items()},
            "default_route": config.default_route,
            "domains": {
                name: _given(
                    {
                        "dkim": [{"selector": key.selector, "key": str(key.key)} for key in domain.dkim],
                        "require_dkim": domain.require_dkim,
                        "return_path": domain.return_path,
                    }
                )
                for name, domain in config.domains.items()
            },
            "keys": {name: _key(key) for name, key in config.keys.items()},
            "delivery": _delivery(config.delivery),
            "retention": _retention(config.retention),
            "suppression": _suppression(config.suppression),
            "webhooks": _webhooks(config.webhooks),
            "simulator": config.simulator,
            "pass_through": _pass_through(config.pass_through),
            "dialects": _dialects(config.dialects),
            "templates": config.templates and str(config.templates),
            "local": {"key": config.local_key, "socket": config.local_socket and str(config.local_socket)},
            "log": {"level": config.log.level, "format": config.log.format, "addresses": config.log.addresses},
        }
    )


def _http_listener(listener: HttpListener) -> dict[str, Any]:
    return {"listen": str(listener.listen), "tls": listener.tls.value, "insecure": listener.insecure}


def _smtp_listener(listener: SmtpListener, certificate: Tls | None) -> dict[str, Any]:
    if listener.role is Role.RETURN_PATH:
        # STARTTLS without a certificate is how the file says nothing of TLS.
        tls = listener.tls.value if certificate is not None or listener.tls is ListenerTls.NONE else None
        own = {"listen": str(listener.listen), "role": listener.role.value, "tls": tls, "min_tls": listener.min_tls}
        return _given(own | {"bare_newlines": listener.bare_newlines and listener.bare_newlines.value})
    return _given(
        {
            "listen": str(listener.listen),
            "role": listener.role.value,
            "tls": listener.tls.value,
            "auth": listener.auth.value,
            "min_tls": listener.min_tls,
            "plaintext_auth": listener.plaintext_auth,
            "bare_newlines": listener.bare_newlines and listener.bare_newlines.value,
            "networks": {str(network): key for network, key in listener.networks},
        }
    )


def _limits(limits: Limits) -> dict[str, Any]:
    return {
        "recipients_per_message": limits.recipients_per_message,
        "batch": limits.batch,
        "attachments": limits.attachments,
        "connections_per_ip": limits.connections_per_ip,
        "connections": limits.connections,
        "auth_failures": limits.auth_failures.rate,
        "buffers": _size(limits.buffers),
        "backlog": {"messages": limits.backlog_messages, "bytes": _size(limits.backlog_bytes)},
        "free_disk": _size(limits.free_disk),
    }


def _route(route: Route) -> dict[str, Any]:
    match route:
        case CaptureRoute():
            return {"type": "capture"}
        case MxRoute():
            return _given(
                {
                    "type": "mx",
                    "port": route.port,
                    "tls": route.tls.value,
                    **_way_out(route),
                    "mta_sts": route.mta_sts if route.tls is not HopTls.NONE else None,
                    "dane": route.dane if route.tls is not HopTls.NONE else None,
                }
            )
        case RelayRoute():
            return _given(
                {
                    "type": "relay",
                    "host": route.host,
                    "port": route.port,
                    "tls": route.tls.value,
                    "verify": route.verify,
                    "ca": route.ca and str(route.ca),
                    "username": route.username,
                    "password": route.password and str(route.password),
                    **_way_out(route),
                }
            )


def _tls(tls: Tls) -> dict[str, Any]:
    return {"certificate": str(tls.certificate), "key": str(tls.key)}


def _way_out(route: MxRoute | RelayRoute) -> dict[str, Any]:
    return {
        "ehlo": route.ehlo,
        "source": route.source,
        "ip_family": route.ip_family.value,
        "dkim": route.dkim.value,
        "min_tls": route.min_tls if route.tls is not HopTls.NONE else None,
        "certificate": route.certificate and _tls(route.certificate),
    }


def _key(key: KeyConfig) -> dict[str, Any]:
    return _given(
        {
            "secret": str(key.secret),
            "account": key.account,
            "route": key.route,
            "from": list(key.senders) or None,
            "scopes": list(key.scopes),
            "default_from": key.default_from,
            "limits": [_limit(limit) for limit in key.limits] or None,
            "ip": [str(network) for network in key.networks] or None,
            "default_domain": key.default_domain,
            "aliases": dict(key.aliases) or None,
            "rewrite_from": key.rewrite_from,
            "duplicates": key.duplicates.value,
            "dsn": notifications.words(key.dsn),
            "mode": str(key.mode),
            "track": {name: bool(key.track & bit) for name, bit in _TRACK},
            "brakes": _brakes(key.brakes) or None,
            "retention": _key_retention(key.retention) or None,
        }
    )


def _brakes(brakes: Brakes) -> dict[str, Any]:
    return _given(
        {
            "volume": brakes.volume and brakes.volume.rate,
            "bounces": None if brakes.bounces is None else f"{100 * brakes.bounces:g}%",
            "new_recipients": brakes.new_recipients and brakes.new_recipients.rate,
        }
    )


def _key_retention(kept: KeyRetention) -> dict[str, Any]:
    content = {"delivered": _optional(kept.content_delivered_s), "failed": _optional(kept.content_failed_s)}
    return _given(
        {
            "content": _given(content) or None,
            "messages": _optional(kept.messages_s),
            "events": _optional(kept.events_s),
        }
    )


def _limit(limit: Limit) -> dict[str, Any]:
    return {limit.unit.value: limit.rate, "burst": limit.burst}


def _delivery(delivery: Delivery) -> dict[str, Any]:
    timeouts = delivery.timeouts
    return {
        "retry": [_duration(pause) for pause in delivery.retry_s],
        "expire_after": _duration(delivery.expire_after_s),
        "concurrency": {"initial": delivery.concurrency_initial, "maximum": delivery.concurrency},
        "messages_per_connection": delivery.messages_per_connection,
        "connections": delivery.connections,
        "max_hops": delivery.max_hops,
        "timeouts": {
            "connect": _duration(timeouts.connect_s),
            "greeting": _duration(timeouts.greeting_s),
            "command": _duration(timeouts.command_s),
            "data_start": _duration(timeouts.data_start_s),
            "data_block": _duration(timeouts.data_block_s),
            "data_end": _duration(timeouts.data_end_s),
        },
    }


def _retention(retention: Retention) -> dict[str, Any]:
    return {
        "content": {
            "delivered": _duration(retention.content_delivered_s),
            "failed": _duration(retention.content_failed_s),
        },
        "messages": _duration(retention.messages_s),
        "events": _duration(retention.events_s),
    }


def _suppression(suppression: Suppression) -> dict[str, Any]:
    return {
        "bounce": _optional(suppression.bounce_s) or NEVER,
        "complaint": _optional(suppression.complaint_s) or NEVER,
        "unsubscribe": _optional(suppression.unsubscribe_s) or NEVER,
    }


def _webhooks(webhooks: Webhooks) -> dict[str, Any]:
    return {
        "allow_http": webhooks.allow_http,
        "allow_networks": [str(network) for network in webhooks.allow_networks],
        "timeout": _duration(webhooks.timeout_s),
        "retry": [_duration(pause) for pause in webhooks.retry_s],
        "disable_after": _duration(webhooks.disable_after_s),
    }


def _pass_through(pass_through: PassThrough) -> dict[str, Any]:
    return {
        "relays": [str(relay) for relay in pass_through.relays],
        "networks": [str(network) for network in pass_through.networks],
        "limit": pass_through.limit.rate,
    }


def _dialects(dialects: Dialects) -> dict[str, Any]:
    return {
        "disabled": sorted(dialects.disabled),
        "sendmux": {"success_status": dialects.sendmux_success_status},
    }


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not set: None is how the file says so too."""
    return {name: value for name, value in values.items() if value is not None}


def _optional(seconds: float | None) -> str | None:
    return None if seconds is None else _duration(seconds)


def _duration(seconds: float) -> str:
    """In the largest unit that says it exactly: `5d`, `90m`, `500ms`."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    return next(f"{milliseconds // worth}{unit}" for unit, worth in _UNITS if milliseconds % worth == 0)


def _size(count: int) -> str:
    return next((f"{count // worth}{unit}" for unit, worth in _SIZES if count % worth == 0), f"{count}")
