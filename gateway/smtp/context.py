"""What the connections of one listener share."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from gateway.config import SmtpListener
from gateway.runtime import Supervisor
from gateway.smtp.door import Door
from gateway.smtp.registry import Registry
from gateway.smtp.rules import Rules


@dataclass(frozen=True, slots=True)
class Context:
    """`tls` is for STARTTLS; `network_key` names the key that the narrowest network with an address stands for;
    `timeout_s` closes a connection that makes no progress."""

    listener: SmtpListener
    rules: Rules
    network_key: Callable[[str], str | None]
    door: Door
    registry: Registry
    supervisor: Supervisor
    tls: ssl.SSLContext | None
    timeout_s: float
