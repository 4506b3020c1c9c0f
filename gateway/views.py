"""What operators and programs see of keys, domains, messages and recipients: values to JSON values. Pure.

No view holds a secret.
"""

import json
from typing import Any

from gateway.config import KeyConfig
from gateway.configfile import keymodes, notifications
from gateway.message import dkim
from gateway.policy import auth
from gateway.policy.domains import SigningKey
from gateway.runtime import rfc3339, show_id
from gateway.store.records import KeyRecord
from gateway.store.shown import MessageView, QueueRow, RecipientView, Suspension


def message_view(view: MessageView) -> dict[str, Any]:
    """A message as JSON values."""
    return {
        "id": show_id("eml_", view.uuid),
        "account": view.account,
        "key": view.key,
        "door": view.door,
        "envelope_sender": view.envelope_sender,
        "from": view.header_from,
        "subject": view.subject,
        "message_id": view.message_id,
        "size": view.size,
        "tags": json.loads(view.tags),
        "metadata": json.loads(view.metadata),
        "created_at": rfc3339(view.created_at),
        "expires_at": rfc3339(view.expires_at),
        "recipients": [recipient_view(recipient) for recipient in view.recipients],
    }


def recipient_view(recipient: RecipientView) -> dict[str, Any]:
    return {
        "to": recipient.address,
        "state": recipient.state.value,
        "attempts": recipient.attempts,
        "route": recipient.route,
        "blocked_by": recipient.blocked_by or None,
        "next_attempt_at": time_view(recipient.next_at),
        "last_reply": recipient.reply,
        "host": recipient.host,
        "class": recipient.bounce_class or None,
        "scope": recipient.scope or None,
        "updated_at": rfc3339(recipient.updated_at),
        "possible_duplicate": recipient.possible_duplicate,
        "opens": recipient.opens,
        "clicks": recipient.clicks,
    }


def row_view(row: QueueRow) -> dict[str, Any]:
    return {
        "id": show_id("eml_", row.uuid),
        "key": row.key,
        "account": row.account,
        "from": row.envelope_sender,
        "subject": row.subject,
        "created_at": rfc3339(row.created_at),
        **recipient_view(row.recipient),
    }


def suspension_view(one: Suspension) -> dict[str, Any]:
    """`number` is what resumes it; `until` None: until it is resumed."""
    return {
        "number": one.id,
        "route": one.route,
        "domain": one.domain,
        "key": one.key,
        "reason": one.reason,
        "since": rfc3339(one.since),
        "until": time_view(one.until),
    }


def key_state(record: KeyRecord, now_ms: int) -> str:
    """`active`, `expired` or `revoked`."""
    if record.revoked_at is not None:
        return "revoked"
    return "expired" if record.expires_at is not None and record.expires_at <= now_ms else "active"


def key_view(record: KeyRecord, now_ms: int) -> dict[str, Any]:
    """`old_until` is when the text before the last rotation ends to be good; None: there is none that is."""
    rotating = record.old_until is not None and record.old_until > now_ms
    return {
        "name": record.name,
        "account": record.account,
        "route": record.route,
        "from": list(record.senders),
        "scopes": list(record.scopes),
        "default_from": record.default_from,
        "limits": [str(limit) for limit in record.limits],
        "networks": [str(network) for network in record.networks],
        "duplicates": record.duplicates.value,
        "dsn": notifications.words(record.dsn),
        **_treatment_view(record),
        "hint": record.hint,
        "state": key_state(record, now_ms),
        "source": "store",
        "created_at": time_view(record.created_at),
        "expires_at": time_view(record.expires_at),
        "revoked_at": time_view(record.revoked_at),
        "old_until": time_view(record.old_until if rotating else None),
    }


def declared_key_view(key: KeyConfig) -> dict[str, Any]:
    """A key of the configuration: as a stored one, without times."""
    return {
        "name": key.name,
        "account": key.account,
        "route": key.route,
        "from": list(key.senders),
        "scopes": list(key.scopes),
        "default_from": key.default_from,
        "limits": [str(limit) for limit in key.limits],
        "networks": [str(network) for network in key.networks],
        "duplicates": key.duplicates.value,
        "dsn": notifications.words(key.dsn),
        **_treatment_view(key),
        "hint": auth.hint(key.secret.value),
        "state": "active",
        "source": "config",
        "created_at": None,
        "expires_at": None,
        "revoked_at": None,
        "old_until": None,
    }


def _treatment_view(key: KeyRecord | KeyConfig) -> dict[str, Any]:
    """What becomes of its mail, as the command line takes it."""
    return {
        "mode": str(key.mode),
        "track": keymodes.tracks(key.track),
        "brakes": keymodes.brake_texts(key.brakes),
        "retention": keymodes.retention_texts(key.retention),
    }


def record_view(key: SigningKey | None) -> dict[str, Any]:
    if key is None:
        return {"selector": None, "dns_name": None, "dns_value": None, "zone": None}
    record = dkim.public_record(key.private)
    return {
        "selector": key.selector,
        "dns_name": f"{key.selector}._domainkey.{key.domain}",
        "dns_value": record,
        "zone": dkim.zone_lines(key.selector, key.domain, record),
    }


def time_view(at_ms: int | None) -> str | None:
    return rfc3339(at_ms) if at_ms is not None else None
