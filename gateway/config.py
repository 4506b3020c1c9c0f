"""The configuration as values: one tree with every default.

Names and meanings are those of etc/gateway.yaml, where each is explained. Nothing is read or checked here
(configfile/ does that).
"""

import os
import socket
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from gateway.keyterms import Brakes, Duplicates, KeyRetention, Limit, Mode, Unit

MB = 1_000_000
HOUR_S = 3600
DAY_S = 24 * HOUR_S
DATA_DIR = Path("/var/lib/mail-gateway")
DATABASE = Path("gateway.db")
MAX_MESSAGE = 35 * MB
DEFAULT_ROUTE = "direct"
CAPTURED = "(capture)"  # routes of the gateway's own, which no configuration can name
SIMULATED = "(simulator)"
AUTH_FAILURES = Limit(Unit.REQUESTS, 10, 60, 10)
PASSED_THROUGH = Limit(Unit.MESSAGES, 30, 60, 30)

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret value whose repr never shows it."""

    value: str = field(repr=False)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Listen:
    """`host:port`; port 0 takes a free one (tests). An IPv6 host is written in brackets in the file."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ListenerTls(StrEnum):
    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


class Auth(StrEnum):
    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


class BareNewlines(StrEnum):
    REJECT = "reject"
    CONVERT = "convert"


class HopTls(StrEnum):
    """TLS to the next hop. STARTTLS means required."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


class IpFamily(StrEnum):
    AUTO = "auto"
    IPV4 = "ipv4"
    IPV6 = "ipv6"


class Signing(StrEnum):
    """What a route signs with; `none` for relays that sign themselves or refuse signed mail."""

    NONE = "none"
    RSA = "rsa"
    RSA_AND_ED25519 = "rsa+ed25519"  # two fields; never Ed25519 alone: too few verify it


class Role(StrEnum):
    """Whose mail an SMTP listener takes."""

    SUBMISSION = "submission"
    RETURN_PATH = "return_path"  # what comes back: bounces, complaints, unsubscriptions; from anybody, to our tokens


@dataclass(frozen=True, slots=True)
class Tls:
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class HttpListener:
    listen: Listen = Listen("127.0.0.1", 8025)
    tls: ListenerTls = ListenerTls.NONE  # none | implicit
    insecure: bool = False  # allows tls: none on an address that is not loopback


@dataclass(frozen=True, slots=True)
class Http:
    listeners: tuple[HttpListener, ...] = (HttpListener(),)
    admin: Listen | None = Listen("127.0.0.1", 8026)  # metrics and health; None: off
    trusted_proxies: tuple[Network, ...] = ()  # whose X-Forwarded-For says who the client is
    public_url: str | None = (
        None  # how recipients reach a listener: for tracking and unsubscribing; no slash at its end
    )


@dataclass(frozen=True, slots=True)
class SmtpListener:
    """`networks` maps a client's network to the name of the key it submits with."""

    listen: Listen = Listen("127.0.0.1", 2525)
    tls: ListenerTls = ListenerTls.NONE
    auth: Auth = Auth.REQUIRED
    min_tls: str = "1.2"  # 1.0 | 1.1 | 1.2 | 1.3
    plaintext_auth: bool | None = None  # None: only on a loopback address
    bare_newlines: BareNewlines | None = None  # None: convert on loopback and where networks are given, else reject
    networks: tuple[tuple[Network, str], ...] = ()
    role: Role = Role.SUBMISSION


@dataclass(frozen=True, slots=True)
class Smtp:
    listeners: tuple[SmtpListener, ...] = (SmtpListener(),)
    feedback: tuple[str, ...] = ()  # addresses to which others send complaints (RFC 5965), on a return_path listener


@dataclass(frozen=True, slots=True)
class Limits:
    recipients_per_message: int = 1000
    batch: int = 1000  # messages in one request
    attachments: int = 100
    connections_per_ip: int = 50
    connections: int = 2000
    auth_failures: Limit = AUTH_FAILURES  # of one client address, and for one user name
    buffers: int = 256 * MB  # content in hand, both doors together
    backlog_messages: int = 5_000_000  # limits.backlog: queued messages, and bytes in the database, at most
    backlog_bytes: int = 50_000 * MB
    free_disk: int = 1000 * MB  # left free where the data is; below it no mail is taken


@dataclass(frozen=True, slots=True)
class Dns:
    nameservers: tuple[Listen, ...] = ()  # empty: the system's
    trust_ad: bool | None = None  # whether their word that an answer is authentic (DNSSEC) counts; None: on loopback


@dataclass(frozen=True, slots=True)
class MxRoute:
    """Delivery by MX lookup (RFC 5321, 5.1)."""

    name: str
    port: int = 25
    tls: HopTls = HopTls.OPPORTUNISTIC
    ehlo: str | None = None  # None: the host name of the gateway
    source: str | None = None  # local address of outgoing connections
    ip_family: IpFamily = IpFamily.AUTO
    dkim: Signing = Signing.RSA
    min_tls: str = "1.2"
    certificate: Tls | None = None  # shown to hosts that ask for one
    mta_sts: bool = True  # RFC 8461
    dane: bool = True  # RFC 7672; needs a resolver whose word counts


@dataclass(frozen=True, slots=True)
class RelayRoute:
    """Delivery to a smarthost. `verify` checks its certificate against the system's store, or `ca`."""

    name: str
    host: str
    port: int
    tls: HopTls = HopTls.STARTTLS
    verify: bool = True
    ca: Path | None = None
    username: str | None = None
    password: Secret | None = None
    ehlo: str | None = None
    source: str | None = None
    ip_family: IpFamily = IpFamily.AUTO
    dkim: Signing = Signing.RSA
    min_tls: str = "1.2"  # 1.0 | 1.1 | 1.2 | 1.3
    certificate: Tls | None = None  # shown to a relay that asks for one


@dataclass(frozen=True, slots=True)
class CaptureRoute:
    """Nothing leaves the machine: recipients become `captured`."""

    name: str


Route = MxRoute | RelayRoute | CaptureRoute


@dataclass(frozen=True, slots=True)
class DkimKey:
    selector: str
    key: Path


@dataclass(frozen=True, slots=True)
class Domain:
    """A sending domain declared in the configuration."""

    name: str
    dkim: tuple[DkimKey, ...] = ()
    require_dkim: bool = False
    return_path: str | None = None  # the domain of envelope senders, which a listener of role return_path takes


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """A key declared in the configuration. `senders` are the patterns of `from`; empty: any sender."""

    name: str
    secret: Secret
    account: str
    route: str | None = None  # None: default_route
    senders: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("send", "read")
    default_from: str | None = None
    limits: tuple[Limit, ...] = ()
    networks: tuple[Network, ...] = ()  # where it may be used from; none: anywhere
    default_domain: str | None = None  # of addresses without one, by SMTP
    aliases: tuple[tuple[str, str], ...] = ()  # local names (lower case) to addresses, by SMTP
    rewrite_from: str | None = None  # the From address and envelope sender that SMTP mail gets in place of its own
    duplicates: Duplicates = Duplicates.AT_LEAST_ONCE
    dsn: int | None = None  # a sum of message/notify.py, where the client says nothing; None: as the door has it
    mode: Mode = field(default_factory=Mode)
    track: int = 0  # a sum of message/model.py, where the client says nothing
    brakes: Brakes = field(default_factory=Brakes)
    retention: KeyRetention = field(default_factory=KeyRetention)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, RFC 5321 4.5.3.2."""

    connect_s: float = 30
    greeting_s: float = 300
    command_s: float = 300
    data_start_s: float = 120
    data_block_s: float = 180
    data_end_s: float = 600


@dataclass(frozen=True, slots=True)
class Delivery:
    retry_s: tuple[float, ...] = (
        60,
        300,
        900,
        1800,
        HOUR_S,
        2 * HOUR_S,
        4 * HOUR_S,
    )  # the last repeats; each ±20 %
    expire_after_s: float = 5 * DAY_S
    concurrency_initial: int = 5  # delivery.concurrency: connections to one destination, at first and at most
    concurrency: int = 20
    messages_per_connection: int = 100
    connections: int = 500  # outgoing, all destinations
    max_hops: int = 50
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long after the last recipient is final; seconds. Captured mail is kept as failed mail is."""

    content_delivered_s: float = 0
    content_failed_s: float = 3 * DAY_S
    messages_s: float = 90 * DAY_S
    events_s: float = 90 * DAY_S


@dataclass(frozen=True, slots=True)
class Suppression:
    """How long an address is not sent to, by reason, in seconds; None: until an operator removes it, 0: it is."""

    bounce_s: float | None = 90 * DAY_S
    complaint_s: float | None = None
    unsubscribe_s: float | None = None


@dataclass(frozen=True, slots=True)
class Webhooks:
    """What endpoints may be, and how long they are tried."""

    allow_http: bool = False
    allow_networks: tuple[Network, ...] = ()  # private addresses that an endpoint may have
    timeout_s: float = 15
    retry_s: tuple[float, ...] = (5, 60, 300, 1800, 2 * HOUR_S, 5 * HOUR_S, 10 * HOUR_S, DAY_S)  # then a dead letter
    disable_after_s: float = 5 * DAY_S  # of failures without a success


@dataclass(frozen=True, slots=True)
class PassThrough:
    """Relays that a request may name together with its own credentials for them; none: off."""

    relays: tuple[Listen, ...] = ()
    networks: tuple[Network, ...] = ()
    limit: Limit = PASSED_THROUGH  # for each client address, and for each user name


@dataclass(frozen=True, slots=True)
class Dialects:
    """The foreign APIs that are served."""

    disabled: frozenset[str] = frozenset()
    sendmux_success_status: int = 201  # 200 for its generated SDKs, which read nothing else


@dataclass(frozen=True, slots=True)
class Log:
    level: str = "info"
    format: str = "text"  # text | json
    addresses: str = "plain"  # plain | hashed


def default_routes() -> dict[str, Route]:
    return {DEFAULT_ROUTE: MxRoute(name=DEFAULT_ROUTE)}


@dataclass(frozen=True, slots=True)
class Config:
    hostname: str = field(default_factory=socket.getfqdn)
    data_dir: Path = DATA_DIR
    database: Path = DATABASE  # store.url "sqlite:gateway.db", relative to data_dir
    max_message: int = MAX_MESSAGE  # composed size in bytes, both doors
    tls: Tls | None = None
    http: Http = field(default_factory=Http)
    smtp: Smtp = field(default_factory=Smtp)
    limits: Limits = field(default_factory=Limits)
    dns: Dns = field(default_factory=Dns)
    routes: dict[str, Route] = field(default_factory=default_routes)
    default_route: str = DEFAULT_ROUTE
    domains: dict[str, Domain] = field(default_factory=dict)
    keys: dict[str, KeyConfig] = field(default_factory=dict)
    delivery: Delivery = field(default_factory=Delivery)
    retention: Retention = field(default_factory=Retention)
    suppression: Suppression = field(default_factory=Suppression)
    webhooks: Webhooks = field(default_factory=Webhooks)
    simulator: str | None = None  # a domain whose addresses play a part; None: off
    pass_through: PassThrough = field(default_factory=PassThrough)
    dialects: Dialects = field(default_factory=Dialects)
    local_key: str | None = None  # local.key: whose mail sendmail(8) and submit.sock hand in; None: off
    local_socket: Path | None = None  # local.socket; None: the default place
    templates: Path | None = None  # a directory of templates
    log: Log = field(default_factory=Log)
    path: Path | None = None  # where it was read from

    @property
    def database_path(self) -> Path:
        return self.data_dir / self.database


def default_path() -> Path:
    """Where the configuration is unless `-c` says otherwise."""
    return Path(os.environ.get("MAIL_GATEWAY_CONFIG", "/etc/mail-gateway/gateway.yaml"))
