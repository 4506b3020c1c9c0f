"""One nameserver, asked with EDNS and, where that is lost on the way, without.

Guarantees: a server, or a firewall before it, that refuses or drops what has EDNS (RFC 6891) is still asked within the
lifetime of the question. The AD bit is asked for both ways (RFC 6840, 5.7), so nothing authentic is lost by it.
"""

import asyncio
from typing import Any, Final

import dns.exception
import dns.flags
import dns.message
import dns.nameserver
import dns.rcode

PAYLOAD: Final = 1232  # bytes of a UDP answer that no path fragments
FLAGS: Final = int(dns.flags.RD | dns.flags.AD)
PLAIN_S: Final = 300.0  # so long a server that seems to drop EDNS is asked without
_NO_EDNS: Final = frozenset({dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS})  # RFC 6891, 7


class Nameserver(dns.nameserver.Do53Nameserver):
    """What dnspython asks; it gives one request to all servers of a question, try after try."""

    def __init__(self, address: str, port: int = 53) -> None:
        super().__init__(address, port)
        self._knows_edns = False  # it has answered with it: a question without answer is no sign then
        self._plain_until = 0.0

    async def async_query(self, request: dns.message.QueryMessage, timeout: float, *args: Any, **named: Any) -> Any:  # noqa: ASYNC109 - dnspython's
        loop = asyncio.get_running_loop()
        if loop.time() < self._plain_until:
            request.use_edns(edns=False)
        try:
            response = await super().async_query(request, timeout, *args, **named)
            if request.edns >= 0 and response.rcode() in _NO_EDNS:
                request.use_edns(edns=False)
                response = await super().async_query(request, timeout, *args, **named)
        except dns.exception.Timeout:
            request.use_edns(edns=False)  # the next try, wherever: it may have been dropped for that
            raise
        if request.edns >= 0:
            self._knows_edns = True
        elif not self._knows_edns and loop.time() >= self._plain_until:
            self._plain_until = loop.time() + PLAIN_S
        return response
