"""Requests to endpoints: one POST, and what came of it as a value.

Guarantees: it goes where netguard.py lets it, and nowhere else; a redirect is not followed; it ends within
`webhooks.timeout` whatever the other side does, with no more than 64 KB of its answer read and none of it kept; the
certificate is verified. The signature is of this very attempt.
"""

import asyncio
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

import gateway
from gateway import netguard
from gateway.config import Webhooks
from gateway.netguard import Guard, GuardedResolver, Unwelcome, UrlError
from gateway.resolver import Resolver
from gateway.runtime import Clock
from gateway.store.webhook import Format
from gateway.webhooks import formats, schedule, signing
from gateway.webhooks.formats import Payload
from gateway.webhooks.schedule import Answer, Outcome

CONNECTIONS: Final = 100  # for events
PINGS: Final = 20  # for tests, which take none of those
_BODY_S: Final = 1.0  # for what comes behind the status, which is all that counts
_AGENT: Final = f"mail-gateway/{gateway.__version__}"


class Sender:
    """`ca`: authorities in place of the system's. Close it."""

    def __init__(self, config: Webhooks, resolver: Resolver, clock: Clock, *, ca: Path | None = None) -> None:
        self._config = config
        self._resolver = resolver
        self._clock = clock
        self._ca = ca
        self._context: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None

    async def reconfigure(self, config: Webhooks) -> None:
        """For the requests to come; kept connections are closed, for they may lead where none leads now."""
        changed, self._config = config != self._config, config
        if changed:
            await self.close()

    def check_url(self, text: str) -> str:
        """As it will be asked for. Raises UrlError."""
        return netguard.check_url(text, guard(self._config), schemes=_schemes(self._config))

    async def post(
        self, url: str, format_: Format, payload: Payload, secrets: Sequence[str], *, attempt: int
    ) -> Answer:
        """`secrets`: those that are good now, the newest first."""
        began = time.monotonic()
        headers = self._headers(format_, payload, secrets, attempt)

        def failed(outcome: Outcome, error: str) -> Answer:
            return Answer(outcome, 0, _since(began), error)

        try:
            asked = URL(self.check_url(url), encoded=True)
            session = await self._open()
            async with session.post(asked, data=payload.body, headers=headers, allow_redirects=False) as response:
                await _pass_over(response)
                outcome = schedule.outcome_of(response.status)
                error = "" if outcome is Outcome.DELIVERED else f"it answered {response.status}"
                retry_after = response.headers.get("Retry-After", "")
                return Answer(outcome, response.status, _since(began), error, retry_after)
        except UrlError as error:
            return failed(Outcome.BLOCKED, f"its URL {error}")
        except TimeoutError:
            return failed(Outcome.TIMEOUT, f"no answer within {self._config.timeout_s:g} s")
        except aiohttp.ClientConnectorCertificateError:
            return failed(Outcome.UNREACHABLE, "its certificate cannot be verified")
        except aiohttp.ClientConnectorError as error:
            cause = error.os_error
            if isinstance(cause, Unwelcome):
                return failed(Outcome.BLOCKED, str(cause.strerror))
            return failed(Outcome.UNREACHABLE, f"it cannot be reached: {cause.strerror or cause}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return failed(Outcome.UNREACHABLE, f"it gave no answer that can be read ({type(error).__name__})")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _headers(self, format_: Format, payload: Payload, secrets: Sequence[str], attempt: int) -> dict[str, str]:
        at_s = self._clock.now_ms() // 1000
        return {
            "Content-Type": "application/json",
            "User-Agent": _AGENT,
            "Accept-Encoding": "identity",
            "webhook-id": payload.id,
            "webhook-timestamp": str(at_s),
            "webhook-signature": signing.standard(secrets, payload.id, at_s, payload.body),
            **formats.SHAPES[format_].headers(payload, secrets[0], at_s, attempt),
        }

    async def _open(self) -> aiohttp.ClientSession:
        if self._context is None:
            self._context = await asyncio.to_thread(netguard.trusting, self._ca)
        if self._session is None:
            allowed = guard(self._config)
            resolver = GuardedResolver(self._resolver, allowed)
            timeout_s, connections = self._config.timeout_s, CONNECTIONS + PINGS
            self._session = netguard.session(
                resolver, allowed, self._context, timeout_s=timeout_s, connections=connections
            )
        return self._session


def guard(config: Webhooks) -> Guard:
    """Where endpoints may be."""
    ports = {netguard.HTTPS, netguard.HTTP} if config.allow_http else {netguard.HTTPS}
    return Guard(config.allow_networks, frozenset(ports), high_ports=True)


def _schemes(config: Webhooks) -> tuple[str, ...]:
    return ("https", "http") if config.allow_http else ("https",)


async def _pass_over(response: aiohttp.ClientResponse) -> None:
    """The rest of an answer, so that its connection can be used again; one that is long or slow is cut off."""
    left = netguard.MAX_BYTES
    try:
        async with asyncio.timeout(_BODY_S):
            async for piece in response.content.iter_any():
                left -= len(piece)
                if left < 0:
                    break
    except (TimeoutError, aiohttp.ClientError, OSError):
        left = -1
    if left < 0:
        response.close()


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
