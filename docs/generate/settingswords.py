"""What each key of the configuration takes and means, in the order of etc/gateway.yaml."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Setting:
    """One key. `default` is given where the code's own value would not say it."""

    path: str
    form: str
    means: str
    default: str | None = None


def _out(kind: str) -> tuple[Setting, ...]:
    """What routes of type mx and relay share."""
    return (
        Setting(f"{kind}.ehlo", "host name", "the name in EHLO", "`hostname`"),
        Setting(f"{kind}.source", "IP address", "the local address of connections", "the system's choice"),
        Setting(f"{kind}.ip_family", "`auto`, `ipv4`, `ipv6`", "which addresses of a host are tried"),
        Setting(f"{kind}.dkim", "`rsa`, `rsa+ed25519`, `none`", "what mail is signed with"),
        Setting(f"{kind}.min_tls", "`1.0` to `1.3`", "no older TLS"),
        Setting(f"{kind}.certificate.certificate", "path", "shown to hosts that ask for one", "none"),
        Setting(f"{kind}.certificate.key", "path", "its key", "none"),
    )


WORDS: Final = (
    Setting("hostname", "host name", "the name in EHLO, Received and Message-ID", "the machine's own"),
    Setting("data_dir", "absolute path", "database, control socket, master key; what relative paths are relative to"),
    Setting("store.url", "`sqlite:FILE`", "the database"),
    Setting("max_message", "size, 1KB to 1GB", "the largest message, composed, by either door"),
    Setting(
        "tls.certificate",
        "path",
        "certificate with its chain, for listeners with TLS; read again when it changes",
        "none",
    ),
    Setting("tls.key", "path", "its key", "none"),
    Setting("http.listeners[].listen", "host:port", "where; an IPv6 address in brackets"),
    Setting("http.listeners[].tls", "`none`, `implicit`", "TLS from the first byte, or none"),
    Setting("http.listeners[].insecure", "true, false", "allows `tls: none` on an address that is not loopback"),
    Setting(
        "http.admin",
        "host:port or `off`",
        "metrics and health: without a key on a loopback address of its own; as an HTTP listener's with a key",
    ),
    Setting("http.trusted_proxies", "list of networks", "whose X-Forwarded-For says who the client is"),
    Setting("http.public_url", "URL", "how recipients reach a listener: tracking and unsubscribing need it", "none"),
    Setting("smtp.listeners[].listen", "host:port", "where"),
    Setting("smtp.listeners[].tls", "`none`, `starttls`, `implicit`", "what kind of TLS is offered"),
    Setting("smtp.listeners[].auth", "`required`, `optional`, `none`", "the last two need `networks`"),
    Setting("smtp.listeners[].min_tls", "`1.0` to `1.3`", "no older TLS"),
    Setting("smtp.listeners[].plaintext_auth", "true, false", "whether AUTH may travel in clear", "on loopback only"),
    Setting(
        "smtp.listeners[].bare_newlines",
        "`reject`, `convert`",
        "lines that do not end in CRLF",
        "convert on loopback and with `networks`, else reject",
    ),
    Setting("smtp.listeners[].networks", "network: key", "a client's network stands for the key of that name", "none"),
    Setting(
        "smtp.listeners[].role",
        "`submission`, `return_path`",
        "the second takes from anybody what comes back to a `return_path` or to `feedback`, nothing else",
    ),
    Setting("smtp.feedback", "list of addresses", "to which others send complaints"),
    Setting("limits.recipients_per_message", "number", "more are refused"),
    Setting("limits.batch", "number", "messages in one batch"),
    Setting("limits.attachments", "number", "attachments of a message by HTTP"),
    Setting("limits.connections_per_ip", "number", "of one client address, each door"),
    Setting("limits.connections", "number", "of all clients, each door"),
    Setting(
        "limits.auth_failures", "rate", "wrong keys of one address, and for one user name, before no more are heard"
    ),
    Setting("limits.buffers", "size", "memory for mail on its way in, both doors together"),
    Setting("limits.backlog.messages", "number", "queued messages, at most; more are put off (452, 503)"),
    Setting("limits.backlog.bytes", "size", "what they take in the database, at most"),
    Setting("limits.free_disk", "size", "left free where the data is; below it mail is put off; 0: never"),
    Setting(
        "dns.nameservers",
        "list of IP addresses, with ports",
        "where names are looked up; empty: the system's resolvers",
    ),
    Setting(
        "dns.trust_ad",
        "true, false",
        "whether their word on DNSSEC counts (DANE needs it)",
        "where all are on this machine",
    ),
    Setting("routes.mx.type", "`mx`", "delivery by MX lookup", "needed"),
    Setting("routes.mx.port", "port", "of the hosts"),
    Setting("routes.mx.tls", "`none`, `opportunistic`, `starttls`", "never, where it is offered, required"),
    *_out("routes.mx"),
    Setting("routes.mx.mta_sts", "true, false", "whether policies by MTA-STS count"),
    Setting("routes.mx.dane", "true, false", "whether TLSA records count"),
    Setting("routes.relay.type", "`relay`", "through a smarthost", "needed"),
    Setting("routes.relay.host", "host name or IP address", "the relay", "needed"),
    Setting("routes.relay.port", "port", "of the relay", "by `tls`: 25, 25, 587, 465"),
    Setting("routes.relay.tls", "`none`, `opportunistic`, `starttls`, `implicit`", "`starttls` is required TLS"),
    Setting("routes.relay.verify", "true, false", "whether its certificate must prove its name"),
    Setting("routes.relay.ca", "path", "who vouches for it", "the system's authorities"),
    Setting("routes.relay.username", "text", "for AUTH", "none"),
    Setting("routes.relay.password", "secret", "for AUTH", "none"),
    *_out("routes.relay"),
    Setting("routes.capture.type", "`capture`", "nothing leaves the machine", "needed"),
    Setting("default_route", "name of a route", "the route of keys that name none"),
    Setting("domains.NAME.dkim[].selector", "DKIM selector", "names the record in DNS", "needed"),
    Setting(
        "domains.NAME.dkim[].key",
        "path",
        "private key in PEM: RSA of 2048 bits or more, and Ed25519 beside it",
        "needed",
    ),
    Setting("domains.NAME.require_dkim", "true, false", "mail of the domain is refused while it cannot be signed"),
    Setting(
        "domains.NAME.return_path",
        "domain",
        "of envelope senders, so that bounces come back to a listener of role `return_path`",
        "none",
    ),
    Setting("keys.NAME.secret", "secret", "the key itself, 22 characters or more", "needed"),
    Setting("keys.NAME.account", "name", "what separates tenants", "the key's name"),
    Setting("keys.NAME.route", "name of a route", "the way its mail takes", "`default_route`"),
    Setting("keys.NAME.from", "list of addresses and patterns", "what it may send as", "any"),
    Setting("keys.NAME.scopes", "list of `send`, `read`, `manage`, `admin`", "what it may do"),
    Setting("keys.NAME.default_from", "address", "the sender where an HTTP request names none", "none"),
    Setting("keys.NAME.limits[].requests", "rate", "HTTP requests to send", "none"),
    Setting("keys.NAME.limits[].messages", "rate", "messages", "none"),
    Setting("keys.NAME.limits[].recipients", "rate", "recipients", "none"),
    Setting("keys.NAME.limits[].burst", "number", "so many at once, after a pause", "the count of the rate"),
    Setting("keys.NAME.ip", "list of networks", "where it may be used from", "anywhere"),
    Setting(
        "keys.NAME.duplicates",
        "`at_least_once`, `at_most_once`",
        "what may have been delivered when a process died: again, or never",
    ),
    Setting(
        "keys.NAME.dsn",
        "`never`, or some of `failure`, `delay`, `success`",
        "when senders are notified",
        "by SMTP failure and delay, by HTTP never",
    ),
    Setting("keys.NAME.default_domain", "domain", "of addresses without one, by SMTP", "none"),
    Setting("keys.NAME.aliases", "name: address", "where a name without a domain leads, by SMTP", "none"),
    Setting(
        "keys.NAME.rewrite_from", "address", "stands in From and in the envelope instead of theirs, by SMTP", "none"
    ),
    Setting(
        "keys.NAME.mode",
        "`live`, `capture`, `hold`, `redirect:ADDRESS`, `allow:PATTERN,PATTERN`",
        "what becomes of its mail",
    ),
    Setting("keys.NAME.track.opens", "true, false", "a pixel in the HTML, where a client says nothing"),
    Setting("keys.NAME.track.clicks", "true, false", "links of the HTML lead over the gateway"),
    Setting("keys.NAME.track.text", "true, false", "those of plain text, too"),
    Setting("keys.NAME.brakes.volume", "rate", "of recipients; beyond it new mail is held", "none"),
    Setting("keys.NAME.brakes.bounces", "share, as `10%`", "of hard bounces in a day; from it on, the same", "none"),
    Setting("keys.NAME.brakes.new_recipients", "rate", "of addresses that it never wrote to; the same", "none"),
    Setting("keys.NAME.retention.content.delivered", "duration from 0s", "as below, for its mail", "`retention`"),
    Setting("keys.NAME.retention.content.failed", "duration from 0s", "the same", "`retention`"),
    Setting("keys.NAME.retention.messages", "duration", "the same", "`retention`"),
    Setting("keys.NAME.retention.events", "duration", "the same", "`retention`"),
    Setting("local.key", "name of a key", "whose mail programs of this machine hand in", "none: off"),
    Setting("local.socket", "absolute path", "where", "/run/mail-gateway/submit.sock, else in `data_dir`"),
    Setting("delivery.retry", "list of durations", "pauses between attempts; the last repeats; each ±20 %"),
    Setting("delivery.expire_after", "duration", "after that a recipient has failed"),
    Setting("delivery.concurrency.initial", "number", "connections to one destination, at first"),
    Setting("delivery.concurrency.maximum", "number", "and at most"),
    Setting("delivery.messages_per_connection", "number", "then a new one is made"),
    Setting("delivery.connections", "number", "to all destinations"),
    Setting("delivery.max_hops", "number", "a message with more Received fields is in a loop"),
    Setting("delivery.timeouts.connect", "duration", "TCP and TLS"),
    Setting("delivery.timeouts.greeting", "duration", "the host's first word"),
    Setting("delivery.timeouts.command", "duration", "its answer to a command"),
    Setting("delivery.timeouts.data_start", "duration", "its answer to DATA"),
    Setting("delivery.timeouts.data_block", "duration", "without any content being taken"),
    Setting("delivery.timeouts.data_end", "duration", "its answer to the final dot"),
    Setting("retention.content.delivered", "duration from 0s", "content is kept after delivery"),
    Setting("retention.content.failed", "duration from 0s", "and after failure or capture"),
    Setting("retention.messages", "duration", "records of messages"),
    Setting("retention.events", "duration", "their events"),
    Setting("suppression.bounce", "duration from 0s, or `never`", "so long nothing is sent after a hard bounce"),
    Setting("suppression.complaint", "the same", "after a complaint"),
    Setting("suppression.unsubscribe", "the same", "after an unsubscription"),
    Setting("webhooks.allow_http", "true, false", "endpoints without TLS"),
    Setting("webhooks.allow_networks", "list of networks", "private addresses that an endpoint may have"),
    Setting("webhooks.timeout", "duration up to 60s", "of a request"),
    Setting(
        "webhooks.retry", "list of durations", "pauses between attempts of an event, each ±20 %; then it is put aside"
    ),
    Setting("webhooks.disable_after", "duration", "of failures without a success, then the endpoint is switched off"),
    Setting("simulator", "domain", "its addresses play a part, and nothing leaves the machine", "none: off"),
    Setting("pass_through.relays", "list of host:port", "relays that a request may name itself; empty: off"),
    Setting("pass_through.networks", "list of networks", "whose clients may"),
    Setting("pass_through.limit", "rate", "attempts of one client address, and for one user name"),
    Setting("dialects.disabled", "list of dialects", "APIs of others that are not served"),
    Setting("dialects.sendmux.success_status", "`200`, `201`", "what an accepted message is answered with"),
    Setting("templates", "path", "a directory of templates for all accounts", "none"),
    Setting("log.level", "`debug`, `info`, `warning`, `error`", "from which level on the log speaks"),
    Setting("log.format", "`text`, `json`", "how"),
    Setting("log.addresses", "`plain`, `hashed`", "whether addresses of people are shown, or a code for each"),
)
