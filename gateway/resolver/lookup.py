"""The questions that are asked, each once at a time, and what is made of the answers."""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.rdatatype
import dns.resolver

from gateway.config import Listen
from gateway.metrics import Metrics
from gateway.resolver import names
from gateway.resolver.answers import Answer, Cache, LookupFailed, Missing, Question
from gateway.resolver.figures import ResolverFigures
from gateway.resolver.nameserver import FLAGS, PAYLOAD, Nameserver

RESOLV_CONF: Final = Path("/etc/resolv.conf")
LOOK_S: Final = 60.0  # how often it is looked at; networks come and go
CACHE_ENTRIES: Final = 10_000
LIFETIME_S: Final = 10.0  # of one question, all servers and retries together
FAILURE_S: Final = 5.0  # so long a failed lookup is not tried again (RFC 2308, 7: at most 5 minutes)
FAILURES: Final = 1000  # that are remembered
TRY_S: Final = 2.0  # for one answer of one server
_ALIASES: Final = 8  # that are followed by questions of our own
_MISSING_NAME: Final = "*"  # the type under which a name that does not exist is kept: there is none of any

_NO_HOST_NAME: Final = Answer(Missing.NAME)

_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "MX": lambda record: (record.preference, names.text(record.exchange)),
    "A": lambda record: str(record.address),
    "AAAA": lambda record: str(record.address),
    "CNAME": lambda record: names.text(record.target),
    "PTR": lambda record: names.text(record.target),
    # RFC 7208, 3.3; RFC 8461, 3.1: the strings of a record are one text. What is not UTF-8 matches nothing.
    "TXT": lambda record: b"".join(record.strings).decode(errors="replace"),
    "TLSA": lambda record: (int(record.usage), int(record.selector), int(record.mtype), bytes(record.cert)),
}

log = logging.getLogger("gateway.resolver")


class Resolver:
    """Asks the given nameservers, or the system's, as its file has them: what changes there is known a minute later.

    `trust_ad`: whether their word that an answer is authentic counts; None: where all of them are on loopback, since
    nobody can change it on the way from there.
    """

    def __init__(
        self,
        nameservers: Sequence[Listen] = (),
        *,
        trust_ad: bool | None = None,
        lifetime_s: float = LIFETIME_S,
        try_s: float = TRY_S,
        figures: ResolverFigures | None = None,
    ) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.flags = FLAGS
        self._resolver.use_edns(0, int(dns.flags.DO), PAYLOAD)
        self._resolver.lifetime = lifetime_s
        self._resolver.timeout = min(try_s, lifetime_s / 2)  # so that a try without EDNS has its time, too
        self.reconfigure(nameservers, trust_ad=trust_ad)
        self._asking: dict[Question, asyncio.Future[Answer | None]] = {}
        self._lookups = (figures or ResolverFigures(Metrics())).lookups

    def reconfigure(self, nameservers: Sequence[Listen], *, trust_ad: bool | None = None) -> None:
        """For the questions to come; what others answered is forgotten."""
        self._wish = None if nameservers else (trust_ad,)  # what the system's are asked with
        self._stamp = _stamp(RESOLV_CONF)
        self._look_at = float("-inf")
        places = [(server.host, server.port) for server in nameservers] or _of_the_system()
        self._trust_ad = all(_on_loopback(host) for host, _ in places) if trust_ad is None else trust_ad
        self._resolver.nameservers = [Nameserver(host, port) for host, port in places]
        self._known = Cache(CACHE_ENTRIES)
        self._failed = Cache(FAILURES)

    async def mx(self, domain: str) -> tuple[tuple[int, str], ...] | Missing | LookupFailed:
        """(preference, host) of each MX record; the host "" is the null MX's."""
        return (await self._ask(domain, "MX")).records

    async def addresses(self, host: str, *, ipv4: bool, ipv6: bool) -> tuple[str, ...] | Missing | LookupFailed:
        """The host's addresses, IPv6 first and then by turns. With one family failing, the other is enough."""
        kinds = [kind for kind, wanted in (("AAAA", ipv6), ("A", ipv4)) if wanted]
        if len(kinds) == 1:
            return (await self._ask(host, kinds[0])).records
        answers = [answer.records for answer in await asyncio.gather(*[self._ask(host, kind) for kind in kinds])]
        found = [records for records in answers if isinstance(records, tuple)]
        if found:
            longest = max(map(len, found))
            return tuple(family[i] for i in range(longest) for family in found if i < len(family))
        for answer in answers:
            if isinstance(answer, LookupFailed):
                return answer
        return Missing.NAME if Missing.NAME in answers else Missing.RECORD

    async def tlsa(self, host: str, port: int) -> tuple[tuple[int, int, int, bytes], ...] | Missing | LookupFailed:
        """(usage, selector, matching type, data) of each TLSA record of a TCP port (RFC 6698, 3). Only authentic
        ones: others are `Missing.RECORD`, whatever they say (RFC 7672, 2.2)."""
        answer = await self._ask(f"_{port}._tcp.{host.removesuffix('.')}", "TLSA")
        if isinstance(answer.records, tuple) and not answer.secure:
            return Missing.RECORD
        return answer.records

    async def txt(self, name: str) -> tuple[str, ...] | Missing | LookupFailed:
        """The text of each TXT record, its strings joined."""
        return (await self._ask(name, "TXT")).records

    async def ptr(self, address: str) -> tuple[str, ...] | Missing | LookupFailed:
        """The names of an IP address. What is no address has none."""
        name = names.reverse(address)
        return (await self._ask(name, "PTR")).records if name else Missing.NAME

    async def is_secure(self, name: str, kind: str) -> bool:
        """Whether the answer to that question (a type: "MX", "A", ...) is authentic, be it that there is no such
        record. False where nobody knows."""
        return (await self._ask(name, kind)).secure

    async def canonical(self, host: str) -> str:
        """The end of its CNAME chain, in lower case; the host itself where there is none or nobody knows."""
        return (await self._ask(host, "A")).canonical or host.removesuffix(".").lower()

    async def _ask(self, name: str, kind: str) -> Answer:
        normal = names.normal(name)
        if normal is None:
            return _NO_HOST_NAME
        question = (normal, kind)
        loop = asyncio.get_running_loop()
        while True:
            if (known := self._remembered(question, loop.time())) is not None:
                self._lookups.at(kind, "cached").value += 1
                return known
            if (asking := self._asking.get(question)) is None:
                break
            answer = await asyncio.shield(asking)
            if answer is not None:
                return answer
            # Who asked was cancelled: the next in line asks.
        future: asyncio.Future[Answer | None] = loop.create_future()
        self._asking[question] = future
        answer = None
        try:
            answer = await self._lookup(question, loop.time() + self._resolver.lifetime)
            self._lookups.at(kind, _outcome(answer)).value += 1
            self._remember(question, answer, loop.time())
        finally:
            del self._asking[question]
            future.set_result(answer)
        return answer

    def _remembered(self, question: Question, now: float) -> Answer | None:
        return (
            self._known.get(question, now)
            or self._known.get((question[0], _MISSING_NAME), now)
            or self._failed.get(question, now)
        )

    def _remember(self, question: Question, answer: Answer, now: float) -> None:
        if isinstance(answer.records, LookupFailed):
            self._failed.put(question, answer, now)
        elif answer.records is Missing.NAME:
            self._known.put((question[0], _MISSING_NAME), answer, now)
        else:
            self._known.put(question, answer, now)

    async def _lookup(self, question: Question, until: float, aliases: int = _ALIASES) -> Answer:
        self._look()
        name, kind = names.absolute(question[0]), question[1]
        left_s = until - asyncio.get_running_loop().time()
        try:
            found = await self._resolver.resolve(name, kind, search=False, raise_on_no_answer=False, lifetime=left_s)
        except dns.resolver.NXDOMAIN as error:
            return self._read(error.kwargs["responses"][name], Missing.NAME)
        except dns.resolver.LifetimeTimeout:
            return _failed("no answer in time")
        except dns.resolver.NoNameservers as error:
            reasons = {str(e[3]) or type(e[3]).__name__ for e in error.kwargs.get("errors", ())}
            return _failed("; ".join(sorted(reasons)) or "no nameserver could answer")
        except (dns.exception.DNSException, OSError) as error:
            return _failed(str(error) or type(error).__name__)
        if found.rrset is None:
            if _is_referral(found.response):
                return _failed("the nameserver does not resolve names of others")
            if found.canonical_name != name and not _has_soa(found.response):
                alias = self._read(found.response, Missing.RECORD)
                return await self._follow(alias, kind, until, aliases)
            return self._read(found.response, Missing.RECORD)
        return self._read(found.response, tuple(map(_READ.get(kind, str), found.rrset)))

    def _look(self) -> None:
        """Whether the system's nameservers are others now."""
        now = asyncio.get_running_loop().time()
        if self._wish is not None and now >= self._look_at:
            if self._stamp != _stamp(RESOLV_CONF):
                self.reconfigure((), trust_ad=self._wish[0])
            self._look_at = now + LOOK_S

    async def _follow(self, alias: Answer, kind: str, until: float, aliases: int) -> Answer:
        """An alias without a word about what it stands for is no answer: some forwarders leave the rest to us."""
        end = names.normal(alias.canonical)
        if end is None:
            return replace(alias, records=Missing.NAME)
        if not aliases:
            return _failed("too many aliases")
        answer = await self._lookup((end, kind), until, aliases - 1)
        return replace(answer, ttl_s=min(alias.ttl_s, answer.ttl_s), secure=alias.secure and answer.secure)

    def _read(self, response: dns.message.QueryMessage, records: tuple[Any, ...] | Missing) -> Answer:
        chain = response.resolve_chaining()
        return Answer(
            records,
            ttl_s=chain.minimum_ttl,
            secure=self._trust_ad and bool(response.flags & dns.flags.AD),
            canonical=names.text(chain.canonical_name),
        )


def _outcome(answer: Answer) -> str:
    """A word for the metrics."""
    match answer.records:
        case LookupFailed():
            return "failed"
        case Missing.NAME:
            return "no_name"
        case Missing.RECORD:
            return "no_record"
    return "found"


def _failed(reason: str) -> Answer:
    return Answer(LookupFailed(reason), ttl_s=FAILURE_S)


def _is_referral(response: dns.message.QueryMessage) -> bool:
    """NOERROR with the names of other servers and without a SOA is no word about records (RFC 2308, 2.2)."""
    has_ns = any(rrset.rdtype == dns.rdatatype.NS for rrset in response.authority)
    return has_ns and not _has_soa(response) and not response.answer


def _has_soa(response: dns.message.QueryMessage) -> bool:
    return any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)


def _of_the_system() -> list[tuple[str, int]]:
    """Never fails. (dnspython takes the whole file or nothing of it.)"""
    found = []
    for text in _given(RESOLV_CONF):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            log.warning("%s: %r is not the address of a nameserver and is not asked", RESOLV_CONF, text)
        else:
            found.append((text, 53))
    return found or [("127.0.0.1", 53)]  # what resolv.conf(5) says for a machine without one


def _stamp(path: Path) -> tuple[int, int] | None:
    """Another one where a file was written or replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _given(path: Path) -> list[str]:
    """The nameservers that a file names, as it has them."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("%s cannot be read: %s; the nameserver on 127.0.0.1 is asked", path, error.strerror)
        return []
    return [words[1] for line in lines if len(words := line.split()) > 1 and words[0] == "nameserver"]


def _on_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback
