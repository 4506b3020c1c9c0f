"""The configuration of what becomes of mail: the public address, return paths, suppression, webhooks, the simulator."""

from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml

from gateway import config, configfile, effective
from gateway.configfile import publicurl
from gateway.errors import ConfigError

_DAY_S = 86_400


def load(directory: Path, text: str) -> config.Config:
    path = directory / "gateway.yaml"
    path.write_text(f"hostname: a.example.com\n{text}")
    path.chmod(0o600)
    return configfile.load(path, {})


def warnings_of(directory: Path, text: str) -> list[str]:
    load(directory, text)
    _, problems, warnings = configfile.read_config(directory / "gateway.yaml", {})
    assert not problems
    return [str(warning) for warning in warnings]


def shown(loaded: config.Config) -> dict[str, object]:
    tree = yaml.safe_load(effective.show(loaded))
    assert isinstance(tree, dict)
    return tree


def test_what_is_not_given_has_its_default(tmp_path: Path) -> None:
    loaded = load(tmp_path, "suppression: {}\nwebhooks: {allow_networks: }\n")
    assert loaded.suppression == config.Suppression(90 * _DAY_S, None, None)
    assert loaded.webhooks == config.Webhooks()
    assert (loaded.simulator, loaded.http.public_url, loaded.log.addresses) == (None, None, "plain")


def test_values_are_read_and_shown(tmp_path: Path) -> None:
    text = """
http: {public_url: "https://Mail.example.com/m/"}
domains: {example.com: {return_path: bounces.example.com}, example.net: {return_path: bounces.example.com}}
suppression: {bounce: never, complaint: 0s, unsubscribe: 30d}
webhooks: {allow_http: true, allow_networks: [10.0.0.0/24], timeout: 5s, retry: [1s, 1m], disable_after: 1d}
simulator: play.example.com
log: {addresses: hashed}
"""
    loaded = load(tmp_path, text)
    assert loaded.http.public_url == "https://mail.example.com/m"
    assert [domain.return_path for domain in loaded.domains.values()] == ["bounces.example.com"] * 2
    assert loaded.suppression == config.Suppression(None, 0, 30 * _DAY_S)
    assert loaded.webhooks == config.Webhooks(True, (ip_network("10.0.0.0/24"),), 5, (1, 60), _DAY_S)
    assert loaded.simulator == "play.example.com"
    assert loaded.log.addresses == "hashed"
    tree = shown(loaded)
    assert tree["suppression"] == {"bounce": "never", "complaint": "0s", "unsubscribe": "30d"}
    assert tree["simulator"] == "play.example.com"
    assert load(tmp_path, yaml.safe_dump({"webhooks": tree["webhooks"]})).webhooks == loaded.webhooks
    assert load(tmp_path, yaml.safe_dump({"suppression": tree["suppression"]})).suppression == loaded.suppression


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://mail.example.com", "https://mail.example.com"),
        ("https://mail.example.com/", "https://mail.example.com"),
        ("https://mail.example.com:8443/a/b.c~d/", "https://mail.example.com:8443/a/b.c~d"),
        ("http://127.0.0.1:8025", "http://127.0.0.1:8025"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_public_addresses(text: str, url: str) -> None:
    assert publicurl.parse(text) == url
    assert publicurl.parse(url) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://mail.example.com",
        "https://",
        "https:///t",
        "https://mail.example.com#t",
        "https://mail.example.com//t",
        "https://mail.example.com/a b",
        "https://mail.example.com/%0d",
        "https://[127.0.0.1",
        "https://[::g]",
        "https://mail.example.com:0",
        "https://1.2.3",
        "https://mail.example.com/" + "x" * 200,
    ],
)
def test_no_public_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        publicurl.parse(text)


@pytest.mark.parametrize("url", ["http://mail.example.com", "http://192.0.2.1:80"])
def test_links_in_clear_are_a_warning(tmp_path: Path, url: str) -> None:
    (warning,) = warnings_of(tmp_path, f'http: {{public_url: "{url}"}}\n')
    assert warning == "line 2: http.public_url: who follows a link says in clear which: use https"
    assert warnings_of(tmp_path, 'http: {public_url: "http://127.0.0.1:8025"}\n') == []


@pytest.mark.parametrize("network", ["169.254.0.0/16", "0.0.0.0/0", '"fd00::/8"'])
def test_endpoints_where_clouds_keep_credentials_are_a_warning(tmp_path: Path, network: str) -> None:
    (warning,) = warnings_of(tmp_path, f"webhooks: {{allow_networks: [{network}]}}\n")
    assert "webhooks.allow_networks[0]: holds " in warning
    assert warnings_of(tmp_path, "webhooks: {allow_networks: [127.0.0.1, 10.0.0.0/8]}\n") == []


def test_what_cannot_be_read_is_said_once(tmp_path: Path) -> None:
    """The sections are looked at again for what they mean together."""
    text = "domains: {example.com: {return_path: b.example.com}, example.com: {}}\nkeys: {a: {secrets: x}}\n"
    with pytest.raises(ConfigError) as refusal:
        load(tmp_path, text)
    assert [str(problem) for problem in refusal.value.problems] == [
        "line 2: domains.example.com: is given twice",
        "line 3: keys.a: secret is missing",
        "line 3: keys.a.secrets: unknown key; did you mean secret?",
    ]


@pytest.mark.parametrize("name", ["(capture)", "(simulator)"])
def test_no_route_can_have_the_name_of_what_has_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(tmp_path, f'routes: {{direct: {{type: mx}}, "{name}": {{type: mx}}}}\n')
    assert f"'{name}' is not a name" in str(refusal.value.problems[0])
