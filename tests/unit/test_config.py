"""The configuration file: what ships is the defaults, what is read is what was written, secrets stay secret."""

import os
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from gateway import config, configfile, effective, yamltree
from gateway.config import Auth, CaptureRoute, Config, HopTls, Listen, MxRoute, RelayRoute
from gateway.errors import ConfigError, Problem
from gateway.message import dkim

SHIPPED = Path(__file__).parents[2] / "etc" / "gateway.yaml"


def write(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_file_that_ships_is_the_defaults() -> None:
    assert configfile.load(SHIPPED, {}) == Config(path=SHIPPED)


def test_its_examples_can_be_taken(tmp_path: Path) -> None:
    issuer = trustme.CA()
    certificate = issuer.issue_cert("mail.example.com")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "fullchain.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "privkey.pem")
    (tmp_path / "dkim").mkdir()
    (tmp_path / "dkim" / "s1.pem").write_bytes(dkim.generate_rsa())
    for secret in ("privkey.pem", "dkim/s1.pem"):
        (tmp_path / secret).chmod(0o600)
    lines = []
    for line in SHIPPED.read_text().splitlines():
        code = line.lstrip()
        is_example = code.startswith("# ") and (
            code[2:].startswith("- {") or (code[2:].split(":")[0].isidentifier() and ": " in code)
        )
        is_example = is_example or code.startswith("# example.com:")
        is_example = (
            is_example and not code.startswith(("# tls:  ", "# Sizes:", "# level:")) and "none | starttls" not in code
        )
        lines.append(line.replace("# ", "", 1) if is_example else line)
    text = (
        "\n".join(lines)
        .replace("/var/lib/mail-gateway", str(tmp_path))
        .replace("domains: {}", "domains:")
        .replace("keys: {}", "keys:")
    )
    loaded = configfile.load(write(tmp_path, text), {"SES_PASSWORD": "p", "SHOP_KEY": "k" * 30})
    assert loaded.hostname == "mail.example.com"
    assert len(loaded.smtp.listeners) == 4
    assert len(loaded.http.listeners) == 3
    assert set(loaded.routes) == {"direct", "ses", "inbox"}
    assert loaded.domains["example.com"].require_dkim
    assert loaded.keys["shop"].senders == ("*@example.com",)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "# nothing\n")
    assert configfile.load(path, {}) == Config(path=path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read: No such file"):
        configfile.load(tmp_path / "nowhere.yaml", {})


def test_values_are_read(tmp_path: Path) -> None:
    loaded = configfile.load(
        write(
            tmp_path,
            """
hostname: mail.example.com
data_dir: /srv/mail
store: {url: "sqlite:q.db"}
max_message: 2MB
smtp: {listeners: [{listen: "[::1]:2526", auth: optional, networks: {"10.0.0.0/8": printers}, plaintext_auth: true}]}
dns: {nameservers: ["127.0.0.1:5353", "::1"]}
routes:
  direct: {type: mx, port: 2500, tls: none, ip_family: ipv4, source: 127.0.0.2, ehlo: out.example.com, dkim: none}
  ses: {type: relay, host: smtp.example.net, tls: implicit, username: u, password: {env: P}}
  inbox: {type: capture}
default_route: ses
delivery: {retry: [10s, 1m], timeouts: {connect: 500ms, data_end: 1h}, concurrency: {initial: 2, maximum: 3}}
retention: {content: {delivered: 0s, failed: 1d}}
""",
        ),
        {"P": "secret"},
    )
    assert loaded.database_path == Path("/srv/mail/q.db")
    assert loaded.max_message == 2_000_000
    listener = loaded.smtp.listeners[0]
    assert listener.listen == Listen("::1", 2526)
    assert listener.auth is Auth.OPTIONAL
    assert listener.networks == ((ip_network("10.0.0.0/8"), "printers"),)
    assert loaded.dns.nameservers == (Listen("127.0.0.1", 5353), Listen("::1", 53))
    direct, ses = loaded.routes["direct"], loaded.routes["ses"]
    assert isinstance(direct, MxRoute)
    assert (direct.port, direct.tls, direct.source, direct.ehlo) == (2500, HopTls.NONE, "127.0.0.2", "out.example.com")
    assert isinstance(ses, RelayRoute)
    assert (ses.port, ses.verify, ses.username) == (465, True, "u")
    assert ses.password is not None
    assert ses.password.value == "secret"
    assert loaded.routes["inbox"] == CaptureRoute("inbox")
    assert list(loaded.delivery.retry_s) == [10, 60]
    assert (loaded.delivery.timeouts.connect_s, loaded.delivery.timeouts.data_end_s) == (0.5, 3600)
    assert (loaded.delivery.concurrency_initial, loaded.delivery.concurrency) == (2, 3)


@pytest.mark.parametrize(("tls", "port"), [("none", 25), ("opportunistic", 25), ("starttls", 587), ("implicit", 465)])
def test_the_port_of_a_relay_follows_its_tls(tmp_path: Path, tls: str, port: int) -> None:
    text = f"routes: {{out: {{type: relay, host: a.example.com, tls: {tls}}}}}\ndefault_route: out\n"
    route = configfile.load(write(tmp_path, text), {}).routes["out"]
    assert isinstance(route, RelayRoute)
    assert route.port == port


def test_secrets_come_from_environment_file_and_credential(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("f" * 30 + "\n")
    (tmp_path / "s").chmod(0o600)
    (tmp_path / "c").write_text("c" * 30)
    (tmp_path / "c").chmod(0o644)  # the credentials directory is exempt: systemd guards it
    path = write(
        tmp_path,
        f"data_dir: {tmp_path}\n"
        "keys: {a: {secret: {env: A}}, b: {secret: {file: s}}, c: {secret: {credential: c}}}\n",
    )
    keys = configfile.load(path, {"A": "e" * 30, "CREDENTIALS_DIRECTORY": str(tmp_path)}).keys
    assert [keys[name].secret.value[0] for name in "abc"] == ["e", "f", "c"]
    assert "eeee" not in repr(keys)


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o601])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "s").write_text("f" * 30)
    (tmp_path / "s").chmod(mode)
    path = write(tmp_path, f"data_dir: {tmp_path}\nkeys: {{a: {{secret: {{file: s}}}}}}\n")
    with pytest.raises(ConfigError, match="others can read it: chmod 640"):
        configfile.load(path, {})


def test_an_inline_secret_is_a_warning_and_its_file_must_be_private(tmp_path: Path) -> None:
    text = f"keys: {{a: {{secret: {'x' * 30}}}}}\n"
    _, problems, warnings = configfile.read_config(write(tmp_path, text), {})
    assert not problems
    assert "a secret in the file itself" in warnings[0].message
    with pytest.raises(ConfigError, match="others can read it"):
        configfile.load(write(tmp_path, text, 0o644), {})


def test_what_is_in_force_is_shown_without_secrets(tmp_path: Path) -> None:
    path = write(tmp_path, f"keys: {{a: {{secret: {'x' * 30}}}}}\nhostname: mail.example.com\n")
    shown = effective.show(configfile.load(path, {}))
    assert "hostname: mail.example.com" in shown
    assert "x" * 30 not in shown
    assert "'***'" in shown
    assert "retry_s:" in shown


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1.5h", 5400), ("5d", 432_000), ("0s", 0), ("250ms", 0.25)]
)
def test_durations(text: str, seconds: float) -> None:
    assert yamltree.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m5", "5 years", "-1s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        yamltree.duration_s(text)


SHIPPED_LINES = SHIPPED.read_text().splitlines()


@given(st.data())
def test_a_mutated_file_is_read_or_refused_and_never_breaks(data: st.DataObject) -> None:
    lines = list(SHIPPED_LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = data.draw(
            st.sampled_from(
                [
                    lines[at].replace(":", "", 1),
                    lines[at] * 2,
                    lines[at][: len(lines[at]) // 2],
                    "\t" + lines[at],
                    "- " + lines[at],
                ]
            )
            | st.text(max_size=30)
        )
    reader = configfile.Reader(None, {})
    assert isinstance(reader.read("\n".join(lines)), Config)
    assert all(isinstance(problem, Problem) for problem in reader.problems)


def test_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "MAIL_GATEWAY_CONFIG", "/srv/gateway.yaml")
    assert config.default_path() == Path("/srv/gateway.yaml")
