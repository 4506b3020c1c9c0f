"""What a scanner finds at the listeners of a real daemon (S22): testssl.sh, which speaks TLS by itself where it must.

The default is TLS 1.2 and 1.3, nothing weak, no renegotiation asked for by clients, and the chain of the certificate as
it was given. A listener for old devices (`min_tls: "1.0"`) adds the old versions to itself alone, and no weak cipher.
"""

import json
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.peers.daemon import Daemon
from tests.peers.process import free_port, require

LISTENERS = {
    "https": {"tls": "implicit"},
    "submissions": {"tls": "implicit", "auth": "required"},
    "submission": {"tls": "starttls", "auth": "required"},
    "old devices": {"tls": "implicit", "auth": "required", "min_tls": "1.0"},
}
NEVER = ("SSLv2", "SSLv3", *(f"cipherlist_{kind}" for kind in ("NULL", "aNULL", "EXPORT", "LOW", "3DES_IDEA")))
OLD = "TLS1", "TLS1_1"
SCAN_S = 400.0

pytestmark = pytest.mark.slow

Findings = dict[str, str]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Findings]:
    """What was found at each listener, by testssl.sh's names; all are looked at together."""
    directory = tmp_path_factory.mktemp("scan")
    scanner = require("testssl")
    authority = _certificates(directory)
    ports = {name: free_port() for name in LISTENERS}
    with Daemon(directory / "gw", _settings(directory, ports)) as daemon:
        scans = {name: _scan(scanner, authority, directory, name, port) for name, port in ports.items()}
        for scan in scans.values():
            scan.wait(SCAN_S)
        assert daemon.stop() == 0, daemon.tail()
    return {name: _read(directory / f"{name}.json") for name in LISTENERS}


def _certificates(directory: Path) -> Path:
    """Writes a leaf behind an intermediate authority, and returns the root's certificate."""
    root = trustme.CA()
    issued = root.create_child_ca().issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    (directory / "key.pem").chmod(0o600)
    (directory / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    root.cert_pem.write_to_path(str(directory / "ca.pem"))
    return directory / "ca.pem"


def _settings(directory: Path, ports: dict[str, int]) -> dict[str, object]:
    listeners = [{"listen": f"127.0.0.1:{ports[name]}"} | one for name, one in LISTENERS.items()]
    return {
        "routes": {"here": {"type": "capture"}},
        "default_route": "here",
        "tls": {"certificate": str(directory / "chain.pem"), "key": str(directory / "key.pem")},
        "http": {"listeners": listeners[:1]},
        "smtp": {"listeners": listeners[1:]},
    }


def _scan(scanner: str, authority: Path, directory: Path, name: str, port: int) -> "subprocess.Popen[bytes]":
    """Versions, kinds of ciphers, certificate, renegotiation."""
    command = [scanner, "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--fast"]
    command += ["--add-ca", str(authority), "--jsonfile", str(directory / f"{name}.json")]
    command += ["--starttls", "smtp"] if LISTENERS[name]["tls"] == "starttls" else []
    command += ["--protocols", "--standard", "--server-defaults", "--renegotiation", f"localhost:{port}"]
    with (directory / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _read(path: Path) -> Findings:
    assert path.exists(), path.with_suffix(".log").read_text()
    return {one["id"]: one["finding"] for one in json.loads(path.read_text())}


@pytest.mark.parametrize("name", LISTENERS)
def test_nothing_weak_is_offered(name: str, found: dict[str, Findings]) -> None:
    seen = found[name]
    assert {kind: seen[kind] for kind in NEVER} == dict.fromkeys(NEVER, "not offered")
    assert seen["TLS1_2"] == "offered"
    assert seen["TLS1_3"].startswith("offered")
    assert seen["cipherlist_STRONG"] == "offered"


@pytest.mark.parametrize("name", LISTENERS)
def test_old_versions_stand_where_they_were_asked_for(name: str, found: dict[str, Findings]) -> None:
    wanted = "offered (deprecated)" if name == "old devices" else "not offered"
    assert {version: found[name][version] for version in OLD} == dict.fromkeys(OLD, wanted)


@pytest.mark.parametrize("name", LISTENERS)
def test_clients_cannot_renegotiate(name: str, found: dict[str, Findings]) -> None:
    seen = found[name]
    assert seen["secure_renego"] == "supported"  # RFC 5746: it is spoken of, so that nobody in between begins anew
    assert seen["secure_client_renego"] == "not vulnerable"


@pytest.mark.parametrize("name", LISTENERS)
def test_the_chain_is_whole(name: str, found: dict[str, Findings]) -> None:
    seen = found[name]
    assert seen["cert_chain_of_trust"] == "passed."
    assert seen["cert_trust"].startswith("Ok via SAN")
    assert seen["certs_countServer"] == "2"
    assert seen["certs_list_ordering_problem"] == "no"
