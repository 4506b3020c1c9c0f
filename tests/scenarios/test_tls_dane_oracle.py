"""DANE as OpenSSL judges it: the same host, the same records, the same answer."""

import asyncio
import itertools
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from gateway.config import HopTls
from gateway.delivery.session import Session, open_session
from gateway.delivery.tls import dane
from tests.fakes.hop import hop
from tests.fakes.mx import FakeMx
from tests.fakes.outbound import BRISK
from tests.peers.process import require
from tests.peers.tlshosts import Shown

pytestmark = pytest.mark.slow

NAME = "mx.test"
CHAINS = ["whole", "without the root", "alone", "ended", "another name", "wildcard", "self-signed"]
RECORDS = list(itertools.product([2, 3], [0, 1], [0, 1, 2]))


def _shown(directory: Path, kind: str) -> Shown:
    root = trustme.CA()
    middle = root.create_child_ca()
    now = datetime.now(UTC)
    dates = (now - timedelta(days=9), now - timedelta(days=1)) if kind == "ended" else (None, None)
    names = {"another name": "other.test", "wildcard": "*.test"}
    issued = middle.issue_cert(names.get(kind, NAME), not_before=dates[0], not_after=dates[1])
    leaf, *others = [pem.bytes() for pem in issued.cert_chain_pems]
    whole = [leaf, *others, root.cert_pem.bytes()]
    chain = {"without the root": whole[:-1], "alone": whole[:1]}.get(kind, whole)
    key = issued.private_key_pem.bytes()
    if kind == "self-signed":
        chain, key = [root.cert_pem.bytes()], root.private_key_pem.bytes()
    path = directory / f"{kind.replace(' ', '-')}.pem"
    path.write_bytes(key + b"".join(chain))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    own = chain[0] if kind == "self-signed" else leaf
    return Shown(server, *(ssl.PEM_cert_to_DER_cert(pem.decode()) for pem in (own, root.cert_pem.bytes())))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    directory = tmp_path_factory.mktemp("chains")
    return {kind: _shown(directory, kind) for kind in CHAINS}


async def _openssl(host: FakeMx, records: list[str]) -> bool:
    """What `openssl s_client` says of the host."""
    command = [require("openssl"), "s_client", "-connect", f"127.0.0.1:{host.port}", "-starttls", "smtp", "-brief"]
    command += ["-dane_tlsa_domain", NAME, "-dane_ee_no_namechecks", "-verify_return_error"]
    for record in records:
        command += ["-dane_tlsa_rrdata", record]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(20):
        output, _ = await process.communicate()
    verified = b"Verification: OK" in output
    assert verified or b"verif" in output.lower(), output
    return verified


def _parsed(record: str) -> tuple[int, int, int, bytes]:
    usage, selector, matching, data = record.split(" ")
    return int(usage), int(selector), int(matching), bytes.fromhex(data)


async def _ours(host: FakeMx, records: list[str]) -> bool:
    tlsa = dane.usable(map(_parsed, records))
    assert len(tlsa) == len(records)
    place = replace(hop(host, tls=HopTls.STARTTLS, name=NAME), tlsa=tlsa, names=(NAME,), policy="DANE")
    opened = await open_session(place, BRISK)
    if isinstance(opened, Session):
        opened.wire.close()
        return True
    return False


@pytest.mark.parametrize("kind", CHAINS)
async def test_the_same_answer(kind: str, shown: dict[str, Shown]) -> None:
    one = shown[kind]
    strange = shown["whole" if kind != "whole" else "alone"]
    async with FakeMx(tls=one.server) as host:
        yes = 0
        tried = [[one.tlsa(*numbers)] for numbers in RECORDS]
        tried += [[strange.tlsa(*numbers)] for numbers in RECORDS[::5]]
        tried += [[strange.tlsa(3, 1, 1), one.tlsa(2, 0, 1)], [strange.tlsa(2, 1, 0), one.tlsa(3, 0, 2)]]
        for records in tried:
            ours = await _ours(host, records)
            assert ours is await _openssl(host, records), (kind, records)
            yes += ours
    assert yes > 0, "this shows nothing where all are refused"


def test_the_chains_are_what_they_are_called(shown: dict[str, Shown]) -> None:
    ended = x509.load_der_x509_certificate(shown["ended"].leaf)
    assert ended.not_valid_after_utc < datetime.now(UTC)
    assert shown["self-signed"].leaf == shown["self-signed"].authority
