"""DANE: which TLSA records count, and which certificates they stand for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.delivery.tls import dane, dane_chain, dane_key
from gateway.delivery.tls.dane import Tlsa
from tests.fuzz.effort import examples

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    private: Private

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def spki(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def make(
    name: str,
    issuer: Made | None = None,
    *,
    private: Private | None = None,
    ca: bool = True,
    dns: Sequence[str] = (),
    usage: bool | None = None,
    start: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
) -> Made:
    """A certificate for a common name, signed by the issuer or by itself; `usage`: whether it may sign others."""
    private = private or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in dns]), critical=False)
    if usage is not None:
        flags = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "crl_sign",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        builder = builder.add_extension(x509.KeyUsage(key_cert_sign=usage, **flags), critical=True)
    signer = issuer.private if issuer else private
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Made(builder.sign(signer, algorithm), private)


ROOT = make("root", private=rsa.generate_private_key(65537, 2048))
MIDDLE = make("middle", ROOT, private=ed25519.Ed25519PrivateKey.generate())
LEAF = make("host", MIDDLE, ca=False, dns=("mx.test", "*.wild.test"))
STRANGE = make("strange")
CHAIN = (LEAF.der, MIDDLE.der, ROOT.der)
NAMES = ("mx.test",)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def sha512(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()


GOOD = (3, 1, 1, sha256(LEAF.spki))


@pytest.mark.parametrize(
    ("records", "count"),
    [
        ([GOOD], 1),
        ([(0, 1, 1, sha256(b"")), (1, 1, 1, sha256(b""))], 0),  # RFC 7672, 3.1.3
        ([(4, 1, 1, sha256(b"")), (255, 0, 0, b"x")], 0),
        ([(3, 2, 1, sha256(b""))], 0),
        ([(3, 1, 3, sha256(b""))], 0),
        ([(3, 1, 1, b"short"), (3, 1, 2, sha256(b""))], 0),
        ([(3, 0, 0, b"")], 0),
        ([GOOD, (3, 1, 2, sha512(b"x"))], 1),  # RFC 7671, 9: the stronger one of a kind
        ([GOOD, (3, 0, 2, sha512(b"x")), (2, 1, 2, sha512(b"x")), (3, 1, 0, b"x")], 4),
        ([], 0),
    ],
)
def test_the_records_that_count(records: list[tuple[int, int, int, bytes]], count: int) -> None:
    assert len(dane.usable(records)) == count


@pytest.mark.parametrize("certificate", [LEAF, ROOT, MIDDLE], ids=["EC", "RSA", "Ed25519"])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_usage_3_is_the_certificate_or_its_key(certificate: Made, selector: int, matching: int) -> None:
    selected = certificate.spki if selector else certificate.der
    data = [lambda data: data, sha256, sha512][matching](selected)
    later = NOW + 9 * DAY  # RFC 7672, 3.1.1: neither dates nor names
    assert dane.mismatch([Tlsa(3, selector, matching, data)], [certificate.der], ["any.test"], later) is None
    other = data[:-1] + bytes([data[-1] ^ 1])
    assert dane.mismatch([Tlsa(3, selector, matching, other)], [certificate.der], ["any.test"], later) is not None
    swapped = Tlsa(3, 1 - selector, matching, data)
    assert dane.mismatch([swapped], [certificate.der], ["any.test"], later) is not None


def test_one_of_several_is_enough() -> None:
    records = [Tlsa(3, 1, 1, sha256(b"old")), Tlsa(2, 0, 1, sha256(b"none")), Tlsa(*GOOD)]
    assert dane.mismatch(records, [LEAF.der], ["any.test"], NOW) is None
    assert dane.mismatch(records[:2], CHAIN, NAMES, NOW) is not None


def test_usage_3_is_the_hosts_own_certificate() -> None:
    assert dane.mismatch([Tlsa(3, 0, 1, sha256(MIDDLE.der))], CHAIN, NAMES, NOW) is not None
    assert dane.mismatch([Tlsa(*GOOD)], [], NAMES, NOW) == "it has shown no certificate"


@pytest.mark.parametrize("anchor", [MIDDLE, ROOT], ids=["middle", "root"])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_usage_2_is_an_issuer_of_the_chain(anchor: Made, selector: int, matching: int) -> None:
    selected = anchor.spki if selector else anchor.der
    record = Tlsa(2, selector, matching, [lambda data: data, sha256, sha512][matching](selected))
    assert dane.mismatch([record], CHAIN, NAMES, NOW) is None
    assert dane.mismatch([record], (LEAF.der, ROOT.der, STRANGE.der, MIDDLE.der), NAMES, NOW) is None
    # RFC 7672, 3.1.2: only with the whole of it in DNS the anchor need not be sent.
    up_to_it = CHAIN[: CHAIN.index(anchor.der)]
    assert (dane.mismatch([record], up_to_it, NAMES, NOW) is None) is (matching == 0)


@pytest.mark.parametrize(
    ("name", "ok"),
    [
        ("mx.test", True),
        ("MX.TEST", True),
        ("a.wild.test", True),
        ("a.b.wild.test", False),
        ("wild.test", False),
        ("host", False),  # the common name does not count beside DNS names
        ("other.test", False),
    ],
)
def test_usage_2_asks_for_the_name(name: str, ok: bool) -> None:
    why = dane.mismatch([Tlsa(2, 0, 1, sha256(ROOT.der))], CHAIN, [name], NOW)
    assert why == (None if ok else f"its certificate is not for {name}")
    assert dane.mismatch([Tlsa(2, 0, 1, sha256(ROOT.der))], CHAIN, [name, "mx.test"], NOW) is None


def test_usage_2_takes_the_common_name_where_there_is_no_other() -> None:
    leaf = make("mx.test", MIDDLE, ca=False)
    record = Tlsa(2, 0, 1, sha256(MIDDLE.der))
    assert dane.mismatch([record], [leaf.der, MIDDLE.der], NAMES, NOW) is None
    assert dane.mismatch([record], [leaf.der, MIDDLE.der], ["other.test"], NOW) is not None


def _chains() -> dict[str, tuple[bytes, ...]]:
    old = make("middle", ROOT, end=NOW - timedelta(hours=1))
    no_ca = make("middle", ROOT, ca=False)
    no_signer = make("middle", ROOT, usage=False)
    impostor = make("middle", ROOT)  # of that name, with another key
    weak = rsa.generate_private_key(65537, 2048)
    return {
        "not the issuer": (LEAF.der, impostor.der, ROOT.der),
        "a gap": (LEAF.der, ROOT.der),
        "an issuer out of its dates": (make("h", old, ca=False, dns=NAMES).der, old.der, ROOT.der),
        "an issuer that is no authority": (make("h", no_ca, ca=False, dns=NAMES).der, no_ca.der, ROOT.der),
        "an issuer that may not sign": (make("h", no_signer, ca=False, dns=NAMES).der, no_signer.der, ROOT.der),
        "itself": (make("mx.test", dns=NAMES, private=weak).der,),
        "nothing to read": (b"0\x03\x02\x01\x01", ROOT.der),
        "ended": (make("h", ROOT, ca=False, dns=NAMES, end=NOW - timedelta(hours=1)).der, ROOT.der),
        "not yet": (make("h", ROOT, ca=False, dns=NAMES, start=NOW + timedelta(hours=1)).der, ROOT.der),
    }


@pytest.mark.parametrize(("what", "chain"), _chains().items())
def test_a_chain_that_does_not_lead_to_the_anchor(what: str, chain: tuple[bytes, ...]) -> None:
    records = (
        [Tlsa(2, 0, 1, sha256(ROOT.der)), Tlsa(2, 1, 0, ROOT.spki)]
        if what != "itself"
        else [
            Tlsa(2, 0, 1, sha256(chain[0])),
        ]
    )
    if what == "a gap":
        records = records[:1]
    assert dane.mismatch(records, chain, NAMES, NOW) is not None


def test_an_issuer_that_may_sign_is_one() -> None:
    middle = make("middle", ROOT, usage=True)
    leaf = make("h", middle, ca=False, dns=NAMES)
    assert dane.mismatch([Tlsa(2, 1, 1, sha256(ROOT.spki))], [leaf.der, middle.der, ROOT.der], NAMES, NOW) is None


def test_a_long_chain_takes_no_long_time() -> None:
    """Certificates that all could have signed each other are looked at once each."""
    private = ec.generate_private_key(ec.SECP256R1())
    same = [make("same", private=private).der for _ in range(200)]
    leaf = make("same", make("same", private=private), private=private, ca=False, dns=NAMES)
    assert dane.mismatch([Tlsa(2, 0, 1, sha256(b""))], [leaf.der, *same], NAMES, NOW) is not None


def test_keys_in_dns_that_are_none() -> None:
    records = [Tlsa(2, 1, 0, b"no key"), Tlsa(2, 0, 0, b"no certificate")]
    assert dane.mismatch(records, CHAIN, NAMES, NOW) is not None


@given(st.binary(max_size=300))
@example(b"")
@example(b"\x30\x84\xff\xff\xff\xff")
@example(b"\x30\x80")
@examples(60)
def test_no_certificate_is_too_odd(data: bytes) -> None:
    assert dane_key.public_key_info(data) is None or len(data) > 10
    record = Tlsa(2, 0, 0, data or b"x")
    assert dane.mismatch([record, Tlsa(3, 1, 1, sha256(data))], [data, *CHAIN], NAMES, NOW) is not None


@given(st.integers(0, len(LEAF.certificate.tbs_certificate_bytes) - 1), st.integers(1, 255))
@examples(60)
def test_a_certificate_with_a_wrong_octet(at: int, flip: int) -> None:
    at += LEAF.der.index(LEAF.certificate.tbs_certificate_bytes)
    data = LEAF.der[:at] + bytes([LEAF.der[at] ^ flip]) + LEAF.der[at + 1 :]
    assert dane.mismatch([Tlsa(2, 0, 1, sha256(ROOT.der))], [data, *CHAIN[1:]], NAMES, NOW) is not None
    key = dane_key.public_key_info(data)
    assert key is None or len(key) <= len(data)


def test_a_weak_signature_is_none() -> None:
    """Signed with SHA-1, which no library signs certificates with any more."""
    middle = make("middle", ROOT)
    leaf = make("h", middle, ca=False, dns=NAMES)
    strong, weak = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105")
    assert isinstance(ROOT.private, rsa.RSAPrivateKey)
    signed = middle.certificate.tbs_certificate_bytes.replace(strong, weak)
    signature = ROOT.private.sign(signed, padding.PKCS1v15(), hashes.SHA1())
    der = middle.der.replace(strong, weak)[: -len(signature)] + signature
    loaded = x509.load_der_x509_certificate(der)
    assert isinstance(loaded.signature_hash_algorithm, hashes.SHA1)
    records = [Tlsa(2, 0, 1, sha256(ROOT.der))]
    assert dane.mismatch(records, [leaf.der, middle.der, ROOT.der], NAMES, NOW) is None
    assert dane.mismatch(records, [leaf.der, der, ROOT.der], NAMES, NOW) is not None


def test_a_wrong_name_in_a_certificate() -> None:
    assert dane_chain.names_host(LEAF.certificate, "mx.test")
    assert not dane_chain.names_host(LEAF.certificate, "")
