"""The configuration file: what ships is the defaults, what is read is what was written, secrets stay secret."""

import os
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import config, configfile, effective, yamltree
from gateway.config import (
    Auth,
    BareNewlines,
    CaptureRoute,
    Config,
    HopTls,
    Listen,
    MxRoute,
    RelayRoute,
    Role,
    Signing,
    Tls,
)
from gateway.configfile import grammar
from gateway.errors import ConfigError
from gateway.keyterms import Duplicates, Limit, Unit
from gateway.message import address, dkim, notify

SHIPPED = Path(__file__).parents[2] / "etc" / "gateway.yaml"
ENVIRON = {"SHOP_KEY": "k" * 30}
KEY = "x" * 30


def write(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "gateway.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def private(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def certificate(directory: Path, not_before: datetime | None = None, not_after: datetime | None = None) -> None:
    issued = trustme.CA().issue_cert("mail.example.com", not_before=not_before, not_after=not_after)
    (directory / "fullchain.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    private(directory / "privkey.pem", issued.private_key_pem.bytes())


def problems_of(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as refusal:
        configfile.load(path, environ or {})
    return [str(problem) for problem in refusal.value.problems]


def warnings_of(path: Path) -> list[str]:
    _, problems, warnings = configfile.read_config(path, {})
    assert not problems
    return [str(warning) for warning in warnings]


# The file that ships


def test_the_file_that_ships_is_the_defaults() -> None:
    assert configfile.load(SHIPPED, {}) == Config(path=SHIPPED)


def examples(text: str) -> str:
    """The file with its examples taken: lines that begin with # and no space."""
    return re.sub(r"^( *(?:- )?)#(?=[^ #\n])", r"\1", text, flags=re.MULTILINE)


def prepared(directory: Path) -> Path:
    """The file that ships, its examples taken, and the files that they name."""
    certificate(directory)
    (directory / "office-ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    private(directory / "dkim" / "s1.pem", dkim.generate_rsa())
    for name in ("crm", "printers", "system", "relay"):
        private(directory / f"{name}.key", name[0].encode() * 30)
    private(directory / "credentials" / "erp", b"e" * 30)
    (directory / "templates").mkdir()
    return write(directory, of(directory))


def of(directory: Path) -> str:
    """The file that ships, its examples taken, with the paths of a directory."""
    return re.sub(r"/(etc|var/lib)/mail-gateway", str(directory), examples(SHIPPED.read_text()))


def test_its_examples_can_be_taken(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    loaded = configfile.load(path, {**ENVIRON, "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})
    assert loaded.hostname == "mail.example.com"
    assert len(loaded.smtp.listeners) == 5
    assert [listener.role for listener in loaded.smtp.listeners[3:]] == [Role.SUBMISSION, Role.RETURN_PATH]
    assert loaded.smtp.feedback == ("complaints@bounces.example.com",)
    assert loaded.http.public_url == "https://mail.example.com"
    assert loaded.domains["example.com"].return_path == "bounces.example.com"
    assert loaded.webhooks.allow_networks == (ip_network("10.1.0.0/16"),)
    assert loaded.simulator == "simulator.example.com"
    assert (loaded.keys["shop"].track, str(loaded.keys["crm"].mode)) == (3, "redirect:test@example.com")
    assert len(loaded.http.listeners) == 3
    assert set(loaded.routes) == {"direct", "outside", "relay", "office", "inbox"}
    assert loaded.domains["example.com"].require_dkim
    assert loaded.keys["shop"].senders == ("*@example.com",)
    assert list(map(str, loaded.keys["shop"].limits)) == ["recipients=100/min,burst=200", "messages=50000/day"]
    assert loaded.pass_through.relays == (Listen("smtp.example.com", 587),)
    assert loaded.dialects.disabled == {"overton", "iassmtp"}
    assert loaded.templates == tmp_path / "templates"
    assert [key.secret.value[0] for key in loaded.keys.values()] == ["k", "c", "e", "p", "s"]
    assert loaded.keys["printers"].networks == (ip_network("192.168.1.0/24"),)
    assert (loaded.keys["erp"].duplicates, loaded.keys["erp"].dsn) == (Duplicates.AT_MOST_ONCE, notify.BY_SMTP)
    assert loaded.keys["system"].aliases == (("root", "ops@example.com"),)
    assert loaded.local_key == "system"
    assert loaded.local_socket == configfile.read_local_socket(path) == Path("/run/mail-gateway/submit.sock")
    assert loaded.http.trusted_proxies == (ip_network("10.0.0.2"),)
    assert loaded.tls is not None
    assert loaded.tls.certificate == tmp_path / "fullchain.pem"


def test_it_names_every_key_that_is_served(tmp_path: Path) -> None:
    """Whatever the tree has is in the file: shown in force, every word of it stands there."""
    loaded = configfile.load(prepared(tmp_path), {**ENVIRON, "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})
    words = set(re.findall(r"^[ -]*(\w+):", effective.show(loaded), flags=re.MULTILINE))
    assert words - set(re.findall(r"\w+", SHIPPED.read_text())) == set()
    assert {
        "plaintext_auth",
        "bare_newlines",
        "ca",
        "default_from",
        "data_end",
        "success_status",
        "recipients",
        "burst",
    } <= words


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "# nothing\n")
    assert configfile.load(path, {}) == Config(path=path)


def test_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "MAIL_GATEWAY_CONFIG", "/srv/gateway.yaml")
    assert config.default_path() == Path("/srv/gateway.yaml")


# Reading


def test_values_are_read(tmp_path: Path) -> None:
    loaded = configfile.load(
        write(
            tmp_path,
            """
hostname: mail.example.com
data_dir: /srv/mail
store: {url: "sqlite:q.db"}
max_message: 2MB
smtp:
  listeners:
    - {listen: "[::1]:2526", auth: optional, networks: {"10.0.0.0/8": printers}, plaintext_auth: true}
    - {listen: "127.0.0.1:2526", bare_newlines: reject, min_tls: 1.3}
dns: {nameservers: ["127.0.0.1:5353", "::1", "[::1]:5353"], trust_ad: false}
limits:
  {recipients_per_message: 10, batch: 7, attachments: 2, connections_per_ip: 3, connections: 4, auth_failures: 3/hour,
   buffers: 1GB, backlog: {messages: 50, bytes: 2GB}, free_disk: 0}
routes:
  direct: {type: mx, port: 2500, tls: none, ip_family: ipv4, source: 127.0.0.2, ehlo: out.example.com, dkim: none}
  ses: {type: relay, host: smtp.example.net, tls: implicit, username: u, password: {env: P}}
  inbox: {type: capture}
default_route: ses
delivery: {retry: [10s, 1m], timeouts: {connect: 500ms, data_end: 1h}, concurrency: {initial: 2, maximum: 3}}
retention: {content: {delivered: 0s, failed: 1d}}
pass_through:
  relays: ["SMTP.Example.com:465", "[2001:db8::1]:2525"]
  networks: ["10.0.0.0/8", 192.0.2.7, "2001:db8::/48"]
  limit: 5/hour
dialects: {disabled: [guide], sendmux: {success_status: 200}}
log: {level: debug, format: json}
""",
        ),
        {"P": "secret"},
    )
    assert loaded.database_path == Path("/srv/mail/q.db")
    assert loaded.max_message == 2_000_000
    first, second = loaded.smtp.listeners
    assert first.listen == Listen("::1", 2526)
    assert first.auth is Auth.OPTIONAL
    assert first.networks == ((ip_network("10.0.0.0/8"), "printers"),)
    assert (second.bare_newlines, second.min_tls) == (BareNewlines.REJECT, "1.3")
    assert loaded.dns.nameservers == (Listen("127.0.0.1", 5353), Listen("::1", 53), Listen("::1", 5353))
    assert loaded.dns.trust_ad is False
    failures = Limit(Unit.REQUESTS, 3, 3600, 3)
    assert loaded.limits == config.Limits(10, 7, 2, 3, 4, failures, 1_000_000_000, 50, 2_000_000_000, 0)
    direct, ses = loaded.routes["direct"], loaded.routes["ses"]
    assert isinstance(direct, MxRoute)
    assert (direct.port, direct.tls, direct.source, direct.ehlo) == (2500, HopTls.NONE, "127.0.0.2", "out.example.com")
    assert direct.dkim is Signing.NONE
    assert isinstance(ses, RelayRoute)
    assert (ses.port, ses.verify, ses.username) == (465, True, "u")
    assert ses.password is not None
    assert ses.password.value == "secret"
    assert isinstance(loaded.routes["inbox"], CaptureRoute)
    assert list(loaded.delivery.retry_s) == [10, 60]
    assert (loaded.delivery.timeouts.connect_s, loaded.delivery.timeouts.data_end_s) == (0.5, 3600)
    assert (loaded.delivery.concurrency_initial, loaded.delivery.concurrency) == (2, 3)
    assert loaded.pass_through == config.PassThrough(
        relays=(Listen("smtp.example.com", 465), Listen("2001:db8::1", 2525)),
        networks=(ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"), ip_network("2001:db8::/48")),
        limit=Limit(Unit.MESSAGES, 5, 3600, 5),
    )
    assert loaded.dialects == config.Dialects(frozenset({"guide"}), sendmux_success_status=200)
    assert loaded.log == config.Log("debug", "json")


@pytest.mark.parametrize(("tls", "port"), [("none", 25), ("opportunistic", 25), ("starttls", 587), ("implicit", 465)])
def test_the_port_of_a_relay_follows_its_tls(tmp_path: Path, tls: str, port: int) -> None:
    text = f"routes: {{out: {{type: relay, host: a.example.com, tls: {tls}}}}}\ndefault_route: out\n"
    route = configfile.load(write(tmp_path, text), {}).routes["out"]
    assert isinstance(route, RelayRoute)
    assert route.port == port


def test_a_problem_is_told_at_the_line_of_its_key(tmp_path: Path) -> None:
    path = write(tmp_path, "routes:\n  direct:\n    type: relay\n  other:\n    type: mx\n    tls:\n      maybe\n")
    assert problems_of(path) == [
        "line 2: routes.direct: host is missing",
        "line 6: routes.other.tls: must be one of none, opportunistic, starttls, implicit",
    ]


@pytest.mark.parametrize("maximum", [1, 3])
def test_a_small_maximum_of_connections_needs_no_initial(tmp_path: Path, maximum: int) -> None:
    loaded = configfile.load(write(tmp_path, f"delivery: {{concurrency: {{maximum: {maximum}}}}}\n"), {})
    assert (loaded.delivery.concurrency_initial, loaded.delivery.concurrency) == (maximum, maximum)


def test_a_listener_on_a_free_port_is_no_collision(tmp_path: Path) -> None:
    text = 'smtp: {listeners: [{listen: "127.0.0.1:0"}, {listen: "127.0.0.1:0"}]}\n'
    assert len(configfile.load(write(tmp_path, text), {}).smtp.listeners) == 2


def test_what_a_key_does_for_old_programs(tmp_path: Path) -> None:
    text = f"""
keys:
  old:
    secret: {KEY}
    ip: [10.0.0.0/8, "2001:db8::/48", 192.0.2.7]
    default_domain: xn--bcher-kva.example
    aliases: {{ROOT: Ops@Example.COM, "web.master": w@example.com}}
    rewrite_from: scanner@Example.com
  plain: {{secret: {KEY[::-1]}y, aliases: {{}}}}
local: {{key: old}}
"""
    path = write(tmp_path, text.replace('    ip: [10.0.0.0/8, "2001:db8::/48", 192.0.2.7]\n', ""))
    key = configfile.load(path, {}).keys["old"]
    assert key.default_domain == "xn--bcher-kva.example"
    assert key.aliases == (("root", "Ops@example.com"), ("web.master", "w@example.com"))
    assert key.rewrite_from == "scanner@example.com"
    assert configfile.load(path, {}).local_key == "old"
    assert configfile.read_local_socket(path) is None
    bound = configfile.load(write(tmp_path, text.replace("key: old", "key: plain")), {})
    assert bound.keys["old"].networks == tuple(map(ip_network, ("10.0.0.0/8", "2001:db8::/48", "192.0.2.7")))
    assert bound.keys["plain"] == config.KeyConfig("plain", bound.keys["plain"].secret, "plain")
    shown = effective.show(bound)
    for line in ("default_domain: xn--bcher-kva.example", "root: Ops@example.com", "rewrite_from: scanner@example.com"):
        assert line in shown
    assert "- 192.0.2.7/32" in shown


@pytest.mark.parametrize(
    ("written", "asked", "shown"),
    [
        ("never", 0, ["never"]),
        ("[never]", 0, ["never"]),
        ("failure", notify.FAILURE, ["failure"]),
        ("[delay, success, delay]", notify.DELAY | notify.SUCCESS, ["success", "delay"]),
        ("[success, failure, delay]", notify.SUCCESS | notify.BY_SMTP, ["success", "failure", "delay"]),
        ("null", None, None),
    ],
)
def test_what_the_submitters_of_a_key_are_told(
    tmp_path: Path, written: str, asked: int | None, shown: list[str] | None
) -> None:
    text = f"hostname: a.example.com\nkeys: {{shop: {{secret: {KEY}, dsn: {written}, duplicates: at_most_once}}}}\n"
    loaded = configfile.load(write(tmp_path, text), {})
    assert (loaded.keys["shop"].dsn, loaded.keys["shop"].duplicates) == (asked, Duplicates.AT_MOST_ONCE)
    tree = yaml.safe_load(effective.show(loaded))["keys"]["shop"]
    assert (tree.get("dsn"), tree["duplicates"]) == (shown, "at_most_once")


def test_a_local_key_that_only_the_unit_can_read_is_declared(tmp_path: Path) -> None:
    text = "hostname: a.example.com\nkeys: {system: {secret: {credential: system}}}\nlocal: {key: system}\n"
    (warning,) = warnings_of(write(tmp_path, text))
    assert "keys.system.secret.credential: cannot be read here" in warning


def test_the_socket_of_local_programs_can_be_asked_for_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "keys: {a: {secret: {env: NOT_HERE}}}\nlocal: {key: a, socket: /srv/submit.sock}\n")
    assert configfile.read_local_socket(path) == Path("/srv/submit.sock")
    assert configfile.read_local_socket(write(tmp_path, "")) is None
    with pytest.raises(ConfigError, match="must be an absolute path"):
        configfile.read_local_socket(write(tmp_path, "local: {socket: submit.sock}\n"))
    with pytest.raises(ConfigError, match="cannot be read"):
        configfile.read_local_socket(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("more", ["insecure: true}]", "}], trusted_proxies: [10.0.0.2]"])
def test_a_proxy_in_front_may_have_the_tls(tmp_path: Path, more: str) -> None:
    path = write(tmp_path, f'http: {{listeners: [{{listen: "0.0.0.0:8025", {more}}}\n')
    assert configfile.load(path, {}).http.listeners[0].listen == Listen("0.0.0.0", 8025)


def test_proxies_alone_leave_the_listener_as_it_is(tmp_path: Path) -> None:
    http = configfile.load(write(tmp_path, "http: {trusted_proxies: [10.0.0.0/24]}\n"), {}).http
    assert http == config.Http(trusted_proxies=(ip_network("10.0.0.0/24"),))


@pytest.mark.parametrize(
    ("text", "admin"),
    [
        ("{}", Listen("127.0.0.1", 8026)),
        ("{admin: null}", None),
        ("{admin: off}", None),
        ("{admin: '[::1]:9100'}", Listen("::1", 9100)),
        ("{admin: '127.0.0.1:8025'}", Listen("127.0.0.1", 8025)),
        ("{listeners: [{listen: '0.0.0.0:80', insecure: true}], admin: '0.0.0.0:80'}", Listen("0.0.0.0", 80)),
    ],
)
def test_where_metrics_are(tmp_path: Path, text: str, admin: Listen | None) -> None:
    loaded = configfile.load(write(tmp_path, f"http: {text}\n"), {})
    assert loaded.http.admin == admin
    assert configfile.load(write(tmp_path, effective.show(loaded)), {}).http == loaded.http


# Limits, pass-through, templates


def test_the_limits_of_a_key(tmp_path: Path) -> None:
    limits = "[{recipients: 100/min, burst: 200}, {recipients: 10000/day}, {requests: 5/s}, {messages: 1/h, burst: 3}]"
    path = write(
        tmp_path, f"keys: {{a: {{secret: {KEY}, limits: {limits}}}, b: {{secret: {KEY[::-1]}y, limits: []}}}}\n"
    )
    loaded = configfile.load(path, {})
    assert loaded.keys["a"].limits == (
        Limit(Unit.RECIPIENTS, 100, 60, 200),
        Limit(Unit.RECIPIENTS, 10_000, 86_400, 10_000),
        Limit(Unit.REQUESTS, 5, 1, 5),
        Limit(Unit.MESSAGES, 1, 3600, 3),
    )
    assert loaded.keys["b"].limits == ()


def test_an_empty_limit_is_not_passed_over(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, f"keys: {{a: {{secret: {KEY}, limits: [~]}}}}\n"))
    assert problem == "line 1: keys.a.limits[0]: give one of requests, messages, recipients"


def test_networks_that_may_use_no_relay_are_a_warning(tmp_path: Path) -> None:
    text = "hostname: a.example.com\npass_through: {networks: [10.0.0.0/8]}\n"
    (warning,) = warnings_of(write(tmp_path, text))
    assert warning == "line 2: pass_through.networks: has no effect: no relay is listed"


def test_a_network_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    text = 'pass_through: {relays: ["smtp.example.com:587"], networks: [nearby]}\n'
    (problem,) = problems_of(write(tmp_path, text))
    assert "pass_through.networks[0]: not a network" in problem


@pytest.mark.parametrize("name", ["templates", "/templates"])
def test_the_templates_are_beside_the_data_or_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "templates").mkdir()
    given_name = f"{tmp_path}{name}" if name.startswith("/") else name
    path = write(tmp_path, f"data_dir: {tmp_path}\ntemplates: {given_name}\n")
    assert configfile.load(path, {}).templates == tmp_path / "templates"


# Files


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "nowhere.yaml") == [
        f"{tmp_path / 'nowhere.yaml'} cannot be read: No such file or directory"
    ]


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == [f"{tmp_path} cannot be read: Is a directory"]


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "#" * (yamltree.MAX_BYTES + 1))
    assert problems_of(path) == [f"{path} is larger than {yamltree.MAX_BYTES} bytes"]


def test_the_data_directory_can_be_asked_for_alone(tmp_path: Path) -> None:
    path = write(tmp_path, f"data_dir: {tmp_path}\nkeys: {{a: {{secret: {{env: NOT_HERE}}}}}}\n")
    assert configfile.read_data_dir(path) == tmp_path
    assert configfile.read_data_dir(write(tmp_path, "")) == config.DATA_DIR
    with pytest.raises(ConfigError, match="must be an absolute path"):
        configfile.read_data_dir(write(tmp_path, "data_dir: var\n"))


def test_certificate_and_key_must_fit(tmp_path: Path) -> None:
    text = f"data_dir: {tmp_path}\ntls: {{certificate: fullchain.pem, key: privkey.pem}}\n"
    certificate(tmp_path)
    assert configfile.load(write(tmp_path, text), {}).tls is not None
    private(tmp_path / "privkey.pem", dkim.generate_rsa())
    (problem,) = problems_of(write(tmp_path, text))
    assert "line 2: tls.certificate: certificate and key cannot be used together" in problem


def test_a_certificate_that_only_openssl_takes_is_a_problem(tmp_path: Path) -> None:
    certificate(tmp_path)
    chain = tmp_path / "fullchain.pem"
    chain.write_text(chain.read_text().replace(" CERTIFICATE-", " TRUSTED CERTIFICATE-"))
    text = f"data_dir: {tmp_path}\ntls: {{certificate: fullchain.pem, key: privkey.pem}}\n"
    (problem,) = problems_of(write(tmp_path, text))
    assert problem == (
        f"line 2: tls.certificate: {chain} holds no certificate in PEM that begins with BEGIN CERTIFICATE"
    )


@pytest.mark.parametrize("gone", ["fullchain.pem", "dkim.pem", "s.key"])
def test_a_file_that_goes_while_it_is_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Something else renews it meanwhile: its name is there, and then not."""
    certificate(tmp_path)
    private(tmp_path / "dkim.pem", dkim.generate_rsa())
    private(tmp_path / "s.key", b"f" * 30)
    text = (
        f"data_dir: {tmp_path}\nhostname: a.example.com\n"
        "tls: {certificate: fullchain.pem, key: privkey.pem}\n"
        "domains: {example.com: {dkim: [{selector: s1, key: dkim.pem}]}}\n"
        "keys: {a: {secret: {file: s.key}}}\n"
    )
    path = write(tmp_path, text)
    assert warnings_of(path) == []

    def missing(name: str, real: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def read(asked: Path) -> Any:
            if asked.name == gone:
                raise FileNotFoundError(2, "No such file or directory")
            return real(asked)

        return read

    for name in ("read_bytes", "stat"):  # after the first look, which opens it
        monkeypatch.setattr(Path, name, missing(name, getattr(Path, name)))
    assert any(f"{tmp_path / gone} cannot be read: No such file" in problem for problem in problems_of(path))


def test_an_encrypted_key_is_refused_and_asks_nobody(tmp_path: Path) -> None:
    certificate(tmp_path)
    key = rsa.generate_private_key(65537, 2048)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    private(tmp_path / "privkey.pem", encrypted)
    text = (
        f"data_dir: {tmp_path}\n"
        "tls: {certificate: fullchain.pem, key: privkey.pem}\n"
        "domains: {example.com: {dkim: [{selector: s1, key: privkey.pem}]}}\n"
    )
    tls, domain = problems_of(write(tmp_path, text))
    assert "the key is encrypted" in tls
    assert "the key is encrypted" in domain


def test_the_dates_of_a_certificate_are_a_warning(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    text = f"data_dir: {tmp_path}\nhostname: a.example.com\ntls: {{certificate: fullchain.pem, key: privkey.pem}}\n"
    certificate(tmp_path, not_after=now - timedelta(days=2))
    (warning,) = warnings_of(write(tmp_path, text))
    assert "line 3: tls.certificate: the certificate ended on 20" in warning
    certificate(tmp_path, not_before=now + timedelta(days=2))
    (warning,) = warnings_of(write(tmp_path, text))
    assert "the certificate is not valid before 20" in warning


@pytest.mark.parametrize("tls", ["none", "opportunistic"])
def test_an_authority_without_effect_is_refused(tmp_path: Path, tls: str) -> None:
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    text = f"data_dir: {tmp_path}\nroutes: {{direct: {{type: relay, host: a.example, ca: ca.pem, tls: %s}}}}\n"
    assert configfile.load(write(tmp_path, text % "starttls"), {}).routes["direct"]
    (problem,) = problems_of(write(tmp_path, text % tls))
    assert "routes.direct.ca: has no effect" in problem
    (tmp_path / "ca.pem").write_bytes(b"nothing")
    (problem,) = problems_of(write(tmp_path, text % "implicit"))
    assert "holds no certificate in PEM" in problem


@pytest.mark.parametrize("bits", [1024, 2048])
def test_a_short_dkim_key_is_refused(tmp_path: Path, bits: int) -> None:
    key = rsa.generate_private_key(65537, bits).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    private(tmp_path / "s1.pem", key)
    text = f"data_dir: {tmp_path}\ndomains: {{example.com: {{dkim: [{{selector: s1, key: s1.pem}}]}}}}\n"
    if bits == 2048:
        assert configfile.load(write(tmp_path, text), {}).domains["example.com"].dkim[0].key == tmp_path / "s1.pem"
    else:
        assert "DKIM needs at least 2048" in problems_of(write(tmp_path, text))[0]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("s1 rsa", None),
        ("s1 rsa, s2 ed25519", None),
        ("s2 ed25519, s1 rsa", None),
        ("s1 rsa, s2 other", "line 2: domains.example.com.dkim[1]: the domain has an RSA key already"),
        (
            "s1 rsa, s2 ed25519, s3 ed25519",
            "line 2: domains.example.com.dkim[2]: the domain has an Ed25519 key already",
        ),
        ("s1 rsa, S1 ed25519", "line 2: domains.example.com.dkim[1]: the selector S1 is in use"),
        ("s2 ed25519", "line 2: domains.example.com.dkim: an Ed25519 key signs beside an RSA key only"),
        ("s1 elliptic", "line 2: domains.example.com.dkim[0].key: {}: a DKIM key is Ed25519, or RSA of at least 2048"),
        ("s1 elliptic, s2 ed25519", "line 2: domains.example.com.dkim[0].key: {}: a DKIM key is Ed25519, or RSA"),
    ],
)
def test_a_domain_has_one_dkim_key_of_each_kind(tmp_path: Path, keys: str, said: str | None) -> None:
    private(tmp_path / "rsa.pem", dkim.generate_rsa())
    private(tmp_path / "other.pem", dkim.generate_rsa())
    private(tmp_path / "ed25519.pem", dkim.generate_ed25519())
    elliptic = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = serialization.PrivateFormat.PKCS8
    private(
        tmp_path / "elliptic.pem",
        elliptic.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()),
    )
    pairs = [key.split() for key in keys.split(", ")]
    items = ", ".join(f"{{selector: {selector}, key: {file}.pem}}" for selector, file in pairs)
    path = write(tmp_path, f"data_dir: {tmp_path}\ndomains: {{example.com: {{dkim: [{items}]}}}}\n")
    if said is None:
        loaded = configfile.load(path, {}).domains["example.com"].dkim
        assert [[key.selector, key.key.stem] for key in loaded] == pairs
    else:
        (problem,) = problems_of(path)
        assert problem.removeprefix(f"{path}: ").startswith(said.format(tmp_path / "elliptic.pem"))


@pytest.mark.parametrize("signing", Signing)
@pytest.mark.parametrize("kind", ["type: mx", "type: relay, host: mail.example.org"])
def test_every_way_to_sign_is_taken_by_both_kinds_of_routes(tmp_path: Path, signing: Signing, kind: str) -> None:
    path = write(tmp_path, f"routes: {{out: {{{kind}, dkim: {signing.value}}}}}\ndefault_route: out\n")
    loaded = configfile.load(path, {})
    route = loaded.routes["out"]
    assert isinstance(route, (MxRoute, RelayRoute))
    assert route.dkim is signing
    assert f"dkim: {signing.value}\n" in effective.show(loaded)


# Secrets


def test_secrets_come_from_environment_file_and_credential(tmp_path: Path) -> None:
    private(tmp_path / "s", b"f" * 30 + b"\n")
    credential = private(tmp_path / "credentials" / "c", b"c" * 30)
    credential.chmod(0o644)  # systemd guards the directory
    path = write(
        tmp_path,
        f"data_dir: {tmp_path}\n"
        "keys: {a: {secret: {env: A}}, b: {secret: {file: s}}, c: {secret: {credential: c}}}\n",
    )
    environ = {"A": "e" * 30, "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    keys = configfile.load(path, environ).keys
    assert [keys[name].secret.value[0] for name in "abc"] == ["e", "f", "c"]
    assert "eeee" not in repr(keys)


def test_a_credential_is_a_warning_outside_the_unit(tmp_path: Path) -> None:
    """`check` runs in a shell, where systemd gives none; the daemon cannot start without."""
    path = write(tmp_path, "hostname: a.example.com\nkeys: {a: {secret: {credential: a}}}\n")
    expected = (
        "line 2: keys.a.secret.credential: cannot be read here: systemd gives it to the unit (LoadCredential=a:FILE)"
    )
    assert warnings_of(path) == [expected]
    assert problems_of(path) == [expected]


def test_a_command_does_without_the_credentials_of_the_unit(tmp_path: Path) -> None:
    """But not with a configuration that is wrong."""
    text = (
        "keys: {a: {secret: {credential: a}}, b: {secret: {credential: a}}}\n"
        "routes: {direct: {type: relay, host: a.example, username: u, password: {credential: p}}}\n"
    )
    found = configfile.load_outside(write(tmp_path, text), {})
    unknown = [found.keys["a"].secret, found.keys["b"].secret, configfile.load_outside(found.path, {}).keys["a"].secret]
    assert len({secret.value for secret in unknown}) == 3, "nobody can know it"
    assert effective.show(found).count("'***'") == 3
    with pytest.raises(ConfigError, match="line 3: nonsense: unknown key"):
        configfile.load_outside(write(tmp_path, text + "nonsense: 1\n"), {})


SECRETS = {
    "a key": ("s.key", "keys: {{a: {{secret: {{file: {path}}}}}}}"),
    "a password": (
        "s.key",
        "routes: {{direct: {{type: relay, host: a.example, username: u, password: {{file: {path}}}}}}}",
    ),
    "a DKIM key": ("dkim.pem", "domains: {{example.com: {{dkim: [{{selector: s1, key: {path}}}]}}}}"),
    "a TLS key": ("privkey.pem", "tls: {{certificate: fullchain.pem, key: {path}}}"),
}


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o601, 0o640])
@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, what: str, mode: int) -> None:
    file, text = SECRETS[what]
    certificate(tmp_path)
    private(tmp_path / "s.key", b"f" * 30)
    private(tmp_path / "dkim.pem", dkim.generate_rsa())
    (tmp_path / file).chmod(mode)
    path = write(tmp_path, f"data_dir: {tmp_path}\n" + text.format(path=file))
    if mode == 0o640:
        assert configfile.load(path, {})
    else:
        (problem,) = problems_of(path)
        assert f"{tmp_path / file} holds a secret and others can read it: chmod 640" in problem


def test_the_credentials_directory_is_no_way_round(tmp_path: Path) -> None:
    elsewhere = private(tmp_path / "s.key", b"f" * 30)
    elsewhere.chmod(0o644)
    (tmp_path / "credentials").mkdir()
    path = write(tmp_path, f"keys: {{a: {{secret: {{file: {tmp_path}/credentials/../s.key}}}}}}\n")
    (problem,) = problems_of(path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})
    assert "others can read it" in problem


def test_an_inline_secret_is_a_warning_and_its_file_must_be_private(tmp_path: Path) -> None:
    text = f"hostname: a.example.com\nkeys: {{a: {{secret: {KEY}}}}}\n"
    (warning,) = warnings_of(write(tmp_path, text))
    assert "line 2: keys.a.secret: a secret in the file itself" in warning
    (problem,) = problems_of(write(tmp_path, text, 0o644))
    assert "others can read it" in problem


@pytest.mark.parametrize("secret", ["two\nlines of a secret that is long", "nul\0" + "x" * 30, "tab\t" + "x" * 30])
def test_a_secret_with_control_characters_is_refused_and_not_shown(tmp_path: Path, secret: str) -> None:
    private(tmp_path / "s", secret.encode())
    path = write(tmp_path, f"data_dir: {tmp_path}\nkeys: {{a: {{secret: {{file: s}}}}}}\n")
    (problem,) = problems_of(path)
    assert "a line end or another control character" in problem
    assert secret not in problem


def test_an_empty_secret_file_is_refused(tmp_path: Path) -> None:
    private(tmp_path / "s", b"\n")
    path = write(tmp_path, f"data_dir: {tmp_path}\nkeys: {{a: {{secret: {{file: s}}}}}}\n")
    assert problems_of(path) == [f"line 2: keys.a.secret.file: {tmp_path}/s is empty"]


def test_a_short_secret_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = write(tmp_path, "keys: {a: {secret: {env: A}}}\n")
    (problem,) = problems_of(path, {"A": "hunter2"})
    assert "at least 22 characters" in problem
    assert "hunter2" not in problem


# Warnings


def test_a_key_of_networks_may_be_in_the_store(tmp_path: Path) -> None:
    listener = '{listen: "127.0.0.1:25", networks: {"10.0.0.0/8": printers}}'
    text = f"hostname: a.example.com\nsmtp: {{listeners: [{listener}]}}\n"
    (warning,) = warnings_of(write(tmp_path, text))
    assert "line 2: smtp.listeners[0].networks: 10.0.0.0/8: the key printers is not declared here" in warning


def test_a_password_for_anybody_in_between_is_a_warning(tmp_path: Path) -> None:
    text = (
        "hostname: a.example.com\n"
        "routes: {direct: {type: relay, host: a.example, verify: false, username: u, password: p}}\n"
    )
    assert any("anybody in between" in warning for warning in warnings_of(write(tmp_path, text)))


@pytest.mark.parametrize(("found", "warned"), [("mail.example.com", False), ("mail", True), ("my_box.lan", False)])
def test_the_name_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str, warned: bool) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: found)
    warnings = warnings_of(write(tmp_path, ""))
    assert bool(warnings) is warned
    assert all("hostname: this machine's own name" in warning for warning in warnings)


def test_a_name_that_no_ehlo_could_carry_must_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "büro")
    (problem,) = problems_of(write(tmp_path, ""))
    assert "hostname: this machine's own name, 'büro', is not a host name" in problem


# In force


def test_what_is_in_force_reads_back_the_same(tmp_path: Path) -> None:
    text = of(tmp_path)
    text = re.sub(r"^ +(shop|crm|erp|printers|system|relay): .*\n", "", text, flags=re.MULTILINE)  # those with secrets
    text = text.replace("  key: system\n", "")
    prepared(tmp_path)
    loaded = configfile.load(write(tmp_path, text), {})
    shown = effective.show(loaded)
    assert configfile.load(write(tmp_path, shown), {}) == loaded
    assert "retry:\n  - 1m" in shown


def test_what_is_in_force_is_shown_without_secrets(tmp_path: Path) -> None:
    text = (
        f"keys: {{a: {{secret: {KEY}}}}}\n"
        "routes: {direct: {type: relay, host: a.example, username: u, password: hunter2}}\n"
    )
    shown = effective.show(configfile.load(write(tmp_path, text), {}))
    assert KEY not in shown
    assert "hunter2" not in shown
    assert shown.count("'***'") == 2


@given(st.integers(1, yamltree.MAX_DURATION_S * 1000))
def test_durations_are_shown_as_they_are_read(milliseconds: int) -> None:
    assert round(yamltree.duration_s(effective._duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.integers(1, 10**12))
def test_sizes_are_shown_as_they_are_read(count: int) -> None:
    assert yamltree.size_bytes(effective._size(count)) == count


# Single values


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1.5h", 5400), ("5d", 432_000), ("0s", 0), ("250ms", 0.25)]
)
def test_durations(text: str, seconds: float) -> None:
    assert yamltree.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m5", "5 years", "-1s", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        yamltree.duration_s(text)


@pytest.mark.parametrize(("text", "count"), [("35MB", 35_000_000), ("1gb", 10**9), ("512 KB", 512_000), ("7", 7)])
def test_sizes(text: str, count: int) -> None:
    assert yamltree.size_bytes(text) == count


@pytest.mark.parametrize("text", ["", "MB", "35MiB", "-1", "1.5MB", "1" * 5000])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        yamltree.size_bytes(text)


@pytest.mark.parametrize(
    ("network", "is_open"),
    [
        ("0.0.0.0/0", True),
        ("::/0", True),
        ("8.0.0.0/8", True),
        ("10.0.0.0/7", True),
        ("2000::/3", True),
        ("10.0.0.0/8", False),
        ("127.0.0.0/8", False),
        ("fd00::/8", False),
        ("198.51.100.0/24", False),
        ("2001:db8::/32", False),
        ("::1/128", False),
    ],
)
def test_which_networks_are_full_of_strangers(network: str, is_open: bool) -> None:
    assert grammar.is_open(grammar.network(network)) is is_open


@pytest.mark.parametrize(
    ("text", "count", "period_s"),
    [
        ("10/s", 10, 1),
        ("10/sec", 10, 1),
        ("100/min", 100, 60),
        ("1/hour", 1, 3600),
        ("7/h", 7, 3600),
        ("1000000000/day", 10**9, 86_400),
        ("5/d", 5, 86_400),
    ],
)
def test_rates(text: str, count: int, period_s: int) -> None:
    assert grammar.rate(text) == (count, period_s)


@pytest.mark.parametrize(
    "text", ["", "10", "/s", "10/", "0/s", "-1/s", "1.5/s", "10/m", "10/week", "10 / s", "10/s ", "1000000001/s", "٣/s"]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate like 10/s, 100/min"):
        grammar.rate(text)


LIMITS = st.builds(
    Limit,
    st.sampled_from(Unit),
    st.integers(1, 10**9),
    st.sampled_from([1, 60, 3600, 86_400]),
    st.integers(1, 10**9),
)


@given(LIMITS)
def test_limits_are_shown_as_they_are_read(limit: Limit) -> None:
    assert configfile.parse_limit(str(limit)) == limit
    assert grammar.rate(limit.rate) == (limit.count, limit.period_s)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a limit like recipients=100/min"),
        ("recipients", "is not a limit like"),
        ("bytes=1/s", "is not a limit like"),
        ("100/min", "is not a limit like"),
        ("recipients=100", "'100' is not a rate"),
        ("recipients=100/min,", "'' is not a burst like burst=200"),
        ("recipients=100/min,200", "'200' is not a burst"),
        ("recipients=100/min,burst=", "is not a burst"),
        ("recipients=100/min,burst=²", "is not a burst"),
        ("recipients=100/min,burst=0", "a burst is from 1 to 1000000000"),
        ("recipients=100/min,burst=9999999999", "a burst is from 1"),
        ("recipients=100/min,burst=" + "9" * 5000, "is not a burst"),
        ("recipients=100/min,burst=5,burst=6", "is not a burst"),
    ],
)
def test_what_is_no_limit(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        configfile.parse_limit(text)


def test_two_limits_of_a_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="a limit of messages in the same period already: 5/s"):
        configfile.parse_limits(["messages=5/s", "messages=5/min", "recipients=5/s", "messages=9/s"])


@pytest.mark.parametrize(
    ("text", "relay"),
    [
        ("smtp.example.com:587", Listen("smtp.example.com", 587)),
        ("SMTP.example.com:25", Listen("smtp.example.com", 25)),
        ("192.0.2.1:465", Listen("192.0.2.1", 465)),
        ("[2001:DB8::1]:2525", Listen("2001:db8::1", 2525)),
    ],
)
def test_relays(text: str, relay: Listen) -> None:
    assert grammar.relay(text) == relay


@pytest.mark.parametrize(
    "text",
    ["a.example.com", "a.example.com:80", "u@a.example.com:25", "http://a:25", "2001:db8::1:25", "1.2.3:25", ":25"],
)
def test_what_is_no_relay(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        grammar.relay(text)


PATTERN = st.from_regex(r"[a-z0-9*@.\"\\<>é\n -]{0,24}", fullmatch=True)


@given(PATTERN)
@example("*")
@example("*@*.example.com")
@example("a.b@example.com")
@example("*@1.2.3.4")
@example("a..b@example.com")
@example(".a@example.com")
@example("a.@example.com")
def test_a_pattern_that_is_taken_can_match(text: str) -> None:
    """No pattern passes here that the check of senders cannot read: it would match nobody, silently."""
    try:
        grammar.sender_pattern(text)
    except ValueError:
        return
    if "xn--" not in text:
        address.check_pattern(text)


@given(PATTERN)
@example("Shop <shop@example.com>")
@example('"Shop, Inc." <shop@example.com>')
@example("Shop, Inc. <shop@example.com>")
@example('Shop "Inc" <shop@example.com>')
def test_a_default_sender_that_is_taken_can_be_used(text: str) -> None:
    try:
        grammar.mailbox(text)
    except ValueError:
        return
    if "xn--" not in text:
        address.parse_mailbox(text)


@pytest.mark.parametrize("text", ["shop@example.com", "Shop <shop@example.com>", '"Shop, Inc." <shop@example.com>'])
def test_default_senders(text: str) -> None:
    assert grammar.mailbox(text) == text


@pytest.mark.parametrize("text", ["*", "*@example.com", "*@*.example.com", "a.b+c@example.com", "A@EXAMPLE.com"])
def test_sender_patterns(text: str) -> None:
    assert grammar.sender_pattern(text) == text


# TLS to next hops


def test_a_client_certificate_is_loaded_with_its_private_key(tmp_path: Path) -> None:
    certificate(tmp_path)
    line = "{type: mx, min_tls: '1.3', mta_sts: false, certificate: {certificate: fullchain.pem, key: privkey.pem}}"
    path = write(tmp_path, f"data_dir: {tmp_path}\nroutes: {{direct: {line}}}\n")
    route = configfile.load(path, {}).routes["direct"]
    assert isinstance(route, MxRoute)
    assert (route.min_tls, route.mta_sts, route.dane) == ("1.3", False, True)
    assert route.certificate == Tls(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    (tmp_path / "privkey.pem").chmod(0o644)
    assert "others can read it" in problems_of(path)[0]


@pytest.mark.parametrize(("lowest", "warned"), [("1.0", True), ("1.1", True), ("1.2", False), ("1.3", False)])
def test_old_tls_is_warned_of(lowest: str, warned: bool, tmp_path: Path) -> None:
    path = write(tmp_path, f"routes: {{direct: {{type: relay, host: a.example, min_tls: '{lowest}'}}}}\n")
    said = [warning for warning in warnings_of(path) if "routes.direct.min_tls" in warning]
    assert (
        said
        == [f"line 1: routes.direct.min_tls: TLS {lowest} has been broken: use it for hosts that know nothing better"]
        * warned
    )
