"""A DNS server on a real loopback socket, UDP and TCP, that answers as a recursive resolver does.

A zone is text, one record to a line: `example.test MX 10 mx.example.test`; A, AAAA, MX and CNAME. In place of a record
a name may have a fate: SERVFAIL, REFUSED, TIMEOUT (no answer), TRUNCATED (an answer over TCP only), REFERRAL
(the words of a server that does not recurse). A name that is not in the zone does not exist.
"""

import asyncio
from collections import defaultdict
from types import TracebackType
from typing import Any, Self, cast

import dnslib

from gateway.config import Listen

_FATES = {"SERVFAIL", "REFUSED", "TIMEOUT", "TRUNCATED", "REFERRAL"}
_CHAIN = 20  # CNAMEs that are followed


class FakeDns:
    """`async with FakeDns(zone) as dns`: serves on `dns.listen`; `queries` are (name, type, transport) as they came."""

    def __init__(self, zone: str, *, ttl: int = 300) -> None:
        self.queries: list[tuple[str, str, str]] = []
        self.listen = Listen("127.0.0.1", 0)
        self._ttl = ttl
        self.load(zone)

    def load(self, zone: str) -> None:
        """Take another zone."""
        self._records: dict[str, list[dnslib.RR]] = defaultdict(list)
        self._fates: dict[str, str] = {}
        for line in filter(None, map(str.strip, zone.splitlines())):
            name, kind, *data = line.split(None, 2)
            if kind in _FATES:
                self._fates[name] = kind
            else:
                self._records[name] += dnslib.RR.fromZone(f"{name}. {self._ttl} IN {kind} {_absolute(kind, data[0])}")

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for _ in range(20):  # the TCP port must be free for UDP, too
            self._tcp = await asyncio.start_server(self._serve_tcp, "127.0.0.1", 0)
            port = self._tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _protocol = await loop.create_datagram_endpoint(
                    lambda: _Udp(self), local_addr=("127.0.0.1", port)
                )
            except OSError:
                self._tcp.close()
                continue
            self.listen = Listen("127.0.0.1", port)
            return self
        raise OSError("no port is free for both UDP and TCP")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def asked(self, name: str, kind: str) -> int:
        """How often that was asked, over UDP."""
        return self.queries.count((name, kind, "udp"))

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = self.answer(await reader.readexactly(size), "tcp")
            if answer is not None:
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    def answer(self, query: bytes, transport: str) -> bytes | None:
        """The bytes of the answer; None: there is none."""
        request = cast(Any, dnslib.DNSRecord.parse(query))
        name = str(request.q.qname).rstrip(".").lower()
        kind = dnslib.QTYPE[request.q.qtype]
        self.queries.append((name, kind, transport))
        fate = self._fates.get(name)
        reply = cast(Any, request.reply(ra=1, aa=0))
        if fate == "TIMEOUT":
            return None
        if fate in {"SERVFAIL", "REFUSED"}:
            reply.header.rcode = getattr(dnslib.RCODE, fate)
            return cast(bytes, reply.pack())
        if fate == "REFERRAL":
            reply.add_auth(*dnslib.RR.fromZone("test. 300 IN NS ns.test."))
            return cast(bytes, reply.pack())
        if fate == "TRUNCATED" and transport == "udp":
            reply.header.tc = 1
            return cast(bytes, reply.pack())
        self._fill(reply, name, kind)
        packed = cast(bytes, reply.pack())
        if transport == "udp" and len(packed) > 512:
            reply.rr = []
            reply.header.tc = 1
            return cast(bytes, reply.pack())
        return packed

    def _fill(self, reply: Any, name: str, kind: str) -> None:
        for _ in range(_CHAIN):
            records = self._records.get(name)
            if records is None:
                reply.header.rcode = dnslib.RCODE.NXDOMAIN
                break
            found = [record for record in records if dnslib.QTYPE[record.rtype] == kind]
            reply.add_answer(*found)
            if found:
                return
            alias = [record for record in records if dnslib.QTYPE[record.rtype] == "CNAME"]
            if not alias:
                break
            reply.add_answer(*alias)
            name = str(alias[0].rdata).rstrip(".").lower()
        soa = f"test. {self._ttl} IN SOA ns.test. root.test. 1 3600 600 86400 {self._ttl}"
        reply.add_auth(*dnslib.RR.fromZone(soa))


def _absolute(kind: str, data: str) -> str:
    """Names in data are written without their last dot."""
    return data + "." if kind in {"MX", "CNAME"} and not data.endswith(".") else data


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: FakeDns) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        answer = self._server.answer(data, "udp")
        if answer is not None:
            self._transport.sendto(answer, address)
