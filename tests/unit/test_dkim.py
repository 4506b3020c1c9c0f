"""Signatures: the RFCs' own vectors, a second opinion (dkimpy), tampering, key material and DNS text."""

import base64
import hashlib
import re
from functools import cache

import dkim as dkimpy
import dns.rdatatype
import dns.zone
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from dkim.canonicalization import Relaxed

from gateway.message import dkim
from gateway.message.canonical import BodyHasher, header_fields
from gateway.message.dkim import Algorithm, DkimKeyError, PrivateKey

NOW_S = 1_750_000_000
HEADER = (
    b"Received: from client.example by mail.example.com with ESMTP;\r\n\tFri, 11 Jul 2003 21:00:37 -0700\r\n"
    b"From: Joe SixPack <joe@football.example.com>\r\n"
    b"To: Suzie Q <suzie@shopping.example.net>,\r\n\tBob <bob@shopping.example.net>\r\n"
    b"Subject:   Is   dinner\r\n ready? \r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    b"MIME-Version: 1.0\r\n\r\n"
)
BODY = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"


@cache
def rsa_key() -> PrivateKey:
    return dkim.load_private_key(dkim.generate_rsa())


@cache
def ed25519_key() -> PrivateKey:
    # RFC 8463, A.2
    seed = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    private = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    return dkim.load_private_key(pkcs8(private))


def pkcs8(private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def body_hash(body: bytes) -> bytes:
    hasher = BodyHasher()
    hasher.update(body)
    return hasher.digest()


def sign(header: bytes, body: bytes, key: PrivateKey | None = None, domain: str = "football.example.com") -> bytes:
    """The whole signed message."""
    key = key or rsa_key()
    unsigned = dkim.prepare(header, body_hash(body), domain=domain, selector="s1", now_s=NOW_S, algorithm=key.algorithm)
    return dkim.finish(unsigned, key.sign(unsigned.digest)) + header + body


def verify(message: bytes, key: PrivateKey | None = None) -> bool:
    record = dkim.public_record(key or rsa_key()).encode()

    def txt(name: bytes, timeout: int = 5) -> bytes:
        assert name.startswith(b"s1._domainkey.")
        return record

    return bool(dkimpy.verify(message, dnsfunc=txt))


# The field


def test_the_field_is_as_designed() -> None:
    message = sign(HEADER, BODY)
    field = message[: message.index(b"\r\nReceived")]
    assert all(len(line) <= 78 for line in field.split(b"\r\n"))
    [(name, value)] = header_fields(field)
    tags = dict(tag.strip(b" ").split(b"=", 1) for tag in value.split(b";"))
    assert name == b"dkim-signature"
    assert list(tags) == [b"v", b"a", b"c", b"d", b"s", b"t", b"h", b"bh", b"b"]  # no l=, no i=
    assert tags[b"v"] == b"1"
    assert tags[b"a"] == b"rsa-sha256"
    assert tags[b"c"] == b"relaxed/relaxed"
    assert tags[b"d"] == b"football.example.com"
    assert tags[b"s"] == b"s1"
    assert tags[b"t"] == b"1750000000"
    assert (
        tags[b"h"].replace(b" ", b"").split(b":")
        == (
            b"from from to to cc subject subject date date message-id message-id reply-to sender in-reply-to "
            b"references "
            b"mime-version mime-version content-type content-transfer-encoding list-unsubscribe list-unsubscribe-post"
        ).split()
    )
    assert len(base64.b64decode(tags[b"b"])) == 256


def test_a_unicode_domain_becomes_an_a_label() -> None:
    message = sign(HEADER, BODY, domain="Bücher.example")
    assert b" d=xn--bcher-kva.example; " in message
    assert verify(message)


@pytest.mark.parametrize(
    ("domain", "selector"),
    [
        ("", "s1"),
        ("example.com; l=0", "s1"),
        ("example.com\r\nBcc: a@b", "s1"),
        ("example..com", "s1"),
        ("example.com.", "s1"),
        ("-a.example", "s1"),
        ("a" * 64 + ".example", "s1"),
        ("b\u2028\u00fccher.example", "s1"),
        ("example.com", ""),
        ("example.com", "s1; d=other.example"),
        ("example.com", "s 1"),
        ("example.com", "s1\n"),
    ],
)
def test_what_cannot_stand_in_the_field_is_refused(domain: str, selector: str) -> None:
    with pytest.raises(DkimKeyError, match="not a domain name"):
        dkim.prepare(HEADER, body_hash(BODY), domain=domain, selector=selector, now_s=NOW_S)


def test_the_longest_names_fit() -> None:
    assert verify(sign(HEADER, BODY, domain=".".join(["a" * 60] * 4)))


# A second opinion


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        b"",
        b"\r\n",
        b"\r\n\r\n\r\n",
        b"text\r\n\r\n \r\n\t\r\n\r\n",
        b"Gr\xc3\xbc\xc3\x9fe \xff\x00\x80  \t.\r\n..\r\n",
        b"  indented\t\ttext  \r\n" * 500,
        b"\r\nFrom the start an empty line\r\n",
    ],
)
def test_dkimpy_verifies_bodies(body: bytes) -> None:
    assert verify(sign(HEADER, body))


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Subject: \r\n\t folded \r\n\t\t twice\r\n",
        b"Subject:\r\n",
        b"Subject: Gr\xc3\xbc\xc3\x9fe  aus M\xc3\xbcnchen\r\n",
        b"SUBJECT: case\r\nsubject: and again\r\nSubject: and again\r\n",
        b"To: a@b.example\r\nTo: c@d.example\r\nCc: e@f.example\r\nTo: g@h.example\r\n",
        b"From: first@example.com\r\nFrom: second@example.com\r\n",
        b"References: <1@a>\r\n\t<2@a>\r\n\t<3@a>\r\nIn-Reply-To: <3@a>\r\nReply-To: x@y\r\nSender: z@y\r\n",
        b"List-Unsubscribe: <https://example.com/u?a=b;c=d>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
        b"Content-Type: text/html;\r\n\tcharset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX-Other: not signed\r\n",
        b"Comments: a\r\n" * 70 + b"Cc: x@y\r\n" * 70,
    ],
)
def test_dkimpy_verifies_headers(fields: bytes) -> None:
    assert verify(sign(fields + HEADER, BODY))


def verify_ed25519(message: bytes, index: int = 0) -> bool:
    """Whether that DKIM-Signature field, counted from the top, is a good one by Ed25519.

    dkimpy checks Ed25519 only with a library we do not use; what is hashed is its own, the check is OpenSSL's.
    """
    fields, body = dkimpy.rfc822_parse(message)
    field = [field for field in fields if field[0].lower() == b"dkim-signature"][index]
    tags = dkimpy.util.parse_tag_value(field[1])
    assert tags[b"a"] == b"ed25519-sha256"
    names = re.sub(rb"\s", b"", tags[b"h"]).split(b":")
    hasher = hashlib.sha256()
    dkimpy.hash_headers(hasher, Relaxed, Relaxed.canonicalize_headers(fields), names, field, tags)
    public = ed25519.Ed25519PublicKey.from_public_bytes(ed25519_key().public_bytes())
    try:
        public.verify(base64.b64decode(tags[b"b"]), hasher.digest())
    except InvalidSignature:
        return False
    return base64.b64decode(tags[b"bh"]) == hashlib.sha256(Relaxed.canonicalize_body(body)).digest()


def test_an_ed25519_signature_is_over_dkimpys_header_hash() -> None:
    message = sign(HEADER, BODY, ed25519_key())
    assert verify_ed25519(message)
    assert not verify_ed25519(message.replace(b"Subject: ", b"Subject: not "))
    assert not verify_ed25519(message + b"more\r\n")


# Two signatures


def signature(key: PrivateKey, selector: str) -> bytes:
    """The field alone."""
    unsigned = dkim.prepare(
        HEADER,
        body_hash(BODY),
        domain="football.example.com",
        selector=selector,
        now_s=NOW_S,
        algorithm=key.algorithm,
    )
    return dkim.finish(unsigned, key.sign(unsigned.digest))


@pytest.mark.parametrize("rsa_first", [True, False])
def test_two_signatures_stand_side_by_side(*, rsa_first: bool) -> None:
    by_rsa, by_ed25519 = signature(rsa_key(), "s1"), signature(ed25519_key(), "s1-ed25519")
    message = (by_rsa + by_ed25519 if rsa_first else by_ed25519 + by_rsa) + HEADER + BODY
    place = 0 if rsa_first else 1
    record = dkim.public_record(rsa_key()).encode()
    assert dkimpy.DKIM(message).verify(idx=place, dnsfunc=lambda name, timeout=5: record)
    assert verify_ed25519(message, 1 - place)
    # Each covers the message alone: without the other it is as good.
    assert verify(by_rsa + HEADER + BODY)
    assert verify_ed25519(by_ed25519 + HEADER + BODY)
    [signed_by_rsa, signed_by_ed25519] = [
        re.sub(rb"\s", b"", re.findall(rb"h=([^;]*);", field)[0]) for field in (by_rsa, by_ed25519)
    ]
    assert signed_by_rsa == signed_by_ed25519


@pytest.mark.parametrize("name", dkim.SIGNED_FIELDS)
def test_adding_a_field_breaks_both_signatures(name: bytes) -> None:
    """The first as by the RSA key alone; here the second."""
    fields = signature(rsa_key(), "s1") + signature(ed25519_key(), "s2")
    assert verify_ed25519(fields + HEADER + BODY, 1)
    assert not verify_ed25519(fields + name + b": added\r\n" + HEADER + BODY, 1)


def test_lines_that_are_no_fields_do_not_disturb() -> None:
    """dkimpy refuses such a header as a whole: compared is the digest of a header without them."""
    odd = HEADER.replace(b"MIME-", b"no field at all\r\n folded\r\nMIME-").replace(b"From:", b"From :")
    of_odd = dkim.prepare(odd, body_hash(BODY), domain="a.example", selector="s", now_s=1)
    assert of_odd == dkim.prepare(HEADER, body_hash(BODY), domain="a.example", selector="s", now_s=1)


def test_a_header_without_from_is_signed_against_one_being_added() -> None:
    header = b"Subject: x\r\n\r\n"
    message = sign(header, BODY)
    assert verify(message)
    assert not verify(message.replace(b"Subject: x", b"From: evil@example.org\r\nSubject: x"))


# Tampering


@pytest.mark.parametrize("name", dkim.SIGNED_FIELDS)
@pytest.mark.parametrize("place", ["above", "below"])
def test_adding_an_instance_of_any_signed_field_breaks_the_signature(name: bytes, place: str) -> None:
    complete = b"".join(b"%b: some value\r\n" % each for each in dkim.SIGNED_FIELDS) + b"\r\n"
    for header in (HEADER, complete):
        message = sign(header, BODY)
        assert verify(message)
        at = message.index(header) + (0 if place == "above" else len(header) - 2)
        assert not verify(message[:at] + name + b": added\r\n" + message[at:])


@pytest.mark.parametrize("name", [b"From", b"To", b"Subject", b"Date", b"Message-ID", b"MIME-Version"])
def test_changing_or_removing_a_signed_field_breaks_the_signature(name: bytes) -> None:
    message = sign(HEADER, BODY)
    assert not verify(message.replace(b"\r\n%b: " % name, b"\r\n%b: x" % name))
    assert not verify(message.replace(b"\r\n%b: " % name, b"\r\nX-%b: " % name))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"Joe.\r\n", b"Joe!\r\n"), (b"Joe.\r\n", b"Joe.\r\nmore\r\n"), (b"We lost", b"We  los"), (b"Joe.\r\n", b"")],
)
def test_changing_the_body_breaks_the_signature(old: bytes, new: bytes) -> None:
    message = sign(HEADER, BODY)
    assert old in message
    assert not verify(message.replace(old, new))


def test_changing_what_is_not_signed_does_not() -> None:
    message = sign(HEADER, BODY)
    relaxed = message.replace(b"Is   dinner\r\n ready? ", b"Is dinner ready?").replace(b"game.  Are", b"game.\tAre ")
    assert verify(b"Received: added\r\n" + relaxed + b"\r\n\r\n")


def test_instances_are_signed_from_the_bottom_up() -> None:
    message = sign(b"To: first@x\r\n" + HEADER, BODY)
    assert verify(message)
    first, second = (
        b"To: first@x\r\n",
        b"To: Suzie Q <suzie@shopping.example.net>,\r\n\tBob <bob@shopping.example.net>\r\n",
    )
    swapped = message.replace(second, b"@@").replace(first, second).replace(b"@@", first)
    assert swapped != message
    assert not verify(swapped)


# RFC 8463, appendix A: the message, both keys and both signatures

RFC_HEADER = (
    b"From: Joe SixPack <joe@football.example.com>\r\n"
    b"To: Suzie Q <suzie@shopping.example.net>\r\n"
    b"Subject: Is dinner ready?\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
)
RFC_NAMES = (b"from", b"to", b"subject", b"date", b"message-id", b"from", b"subject", b"date")
RFC_BODY_HASH = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
RFC_ED25519_FIELD = (
    b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
    b" d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
    b" subject : date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b="
)
RFC_ED25519_SIGNATURE = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
RFC_RSA_FIELD = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
    b" d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
    b" date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b="
)
RFC_RSA_SIGNATURE = (
    "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3"
    "DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz"
    "dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8="
)
RFC_RSA_PUBLIC = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/b"
    "yYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)


def rfc_input(field: bytes) -> bytes:
    """The octets that the appendix's signatures cover, out of our canonical fields."""
    left = header_fields(RFC_HEADER)
    lines = []
    for wanted in RFC_NAMES:
        if found := [field for field in left if field[0] == wanted]:
            left.remove(found[-1])
            lines.append(b"%b:%b\r\n" % found[-1])
    [(name, value)] = header_fields(field)
    return b"".join(lines) + name + b":" + value


def test_rfc_8463_body_hash() -> None:
    assert base64.b64encode(body_hash(BODY)).decode() == RFC_BODY_HASH


def test_rfc_8463_ed25519_signature_is_reproduced() -> None:
    digest = hashlib.sha256(rfc_input(RFC_ED25519_FIELD)).digest()
    assert base64.b64encode(ed25519_key().sign(digest)).decode() == RFC_ED25519_SIGNATURE


def test_rfc_8463_rsa_signature_covers_our_canonical_form() -> None:
    public = serialization.load_der_public_key(base64.b64decode(RFC_RSA_PUBLIC))
    assert isinstance(public, rsa.RSAPublicKey)
    signature = base64.b64decode(RFC_RSA_SIGNATURE)
    public.verify(signature, rfc_input(RFC_RSA_FIELD), padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        public.verify(signature, rfc_input(RFC_RSA_FIELD) + b" ", padding.PKCS1v15(), hashes.SHA256())


def test_rfc_8463_record() -> None:
    assert dkim.public_record(ed25519_key()) == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


# Keys


def test_a_generated_key_is_pkcs8_of_2048_bits_and_signs() -> None:
    pem = dkim.generate_rsa()
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    key = dkim.load_private_key(pem)
    assert key.algorithm is Algorithm.RSA
    private = serialization.load_pem_private_key(pem, None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 2048
    private.public_key().verify(key.sign(hashlib.sha256(b"x").digest()), b"x", padding.PKCS1v15(), hashes.SHA256())


def test_a_generated_ed25519_key_is_pkcs8_and_signs() -> None:
    pem = dkim.generate_ed25519()
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    key = dkim.load_private_key(pem)
    assert (key.algorithm, key.algorithm.key_type) == (Algorithm.ED25519, "ed25519")
    assert len(key.public_bytes()) == 32
    digest = hashlib.sha256(b"x").digest()
    ed25519.Ed25519PublicKey.from_public_bytes(key.public_bytes()).verify(key.sign(digest), digest)
    assert dkim.generate_ed25519() != pem


def test_a_pkcs1_key_is_read_too() -> None:
    private = serialization.load_pem_private_key(dkim.generate_rsa(), None)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    assert pem.startswith(b"-----BEGIN RSA PRIVATE KEY-----")
    assert dkim.load_private_key(pem).algorithm is Algorithm.RSA


def test_short_keys_are_refused() -> None:
    private = rsa.generate_private_key(65537, 1024)
    with pytest.raises(DkimKeyError, match="1024 bits; DKIM needs at least 2048"):
        dkim.load_private_key(pkcs8(private))
    with pytest.raises(DkimKeyError, match="1024 bits"):
        dkim.generate_rsa(1024)


def test_other_files_are_refused() -> None:
    private = serialization.load_pem_private_key(dkim.generate_rsa(), None)
    encrypted = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw")
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    elliptic = pkcs8(ec.generate_private_key(ec.SECP256R1()))
    for pem, why in [
        (b"", "not a private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a private key"),
        (public, "not a private key"),
        (encrypted, "encrypted"),
        (elliptic, "is Ed25519, or RSA"),
    ]:
        with pytest.raises(DkimKeyError, match=why):
            dkim.load_private_key(pem)


def test_no_key_material_in_a_repr() -> None:
    assert repr(rsa_key()) == "PrivateKey(algorithm=<Algorithm.RSA: 'rsa-sha256'>)"


# DNS


@pytest.mark.parametrize("bits", [2048, 4096])
def test_zone_lines_are_what_a_name_server_reads(bits: int) -> None:
    record = dkim.public_record(dkim.load_private_key(dkim.generate_rsa(bits)))
    text = dkim.zone_lines("s1", "example.com", record)
    assert text.startswith('s1._domainkey.example.com. IN TXT ( "v=DKIM1; k=rsa; p=')
    zone = dns.zone.from_text(f"$TTL 300\n{text}\n", "example.com.", check_origin=False)
    [strings] = [item.strings for item in zone.find_rdataset("s1._domainkey", dns.rdatatype.TXT)]
    assert all(len(string) <= 255 for string in strings)
    assert len(strings) == -(-len(record) // 255)
    assert b"".join(strings).decode() == record
    assert dkim.txt_strings(record) == [string.decode() for string in strings]


def test_zone_lines_of_a_unicode_domain_are_ascii() -> None:
    assert dkim.zone_lines("s1", "bücher.example", "v=DKIM1; p=").startswith("s1._domainkey.xn--bcher-kva.example. ")


def test_a_damaged_key_is_refused() -> None:
    key = serialization.load_pem_private_key(dkim.generate_rsa(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    parts = {part: getattr(numbers, part) for part in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    for name in ("d", "dmp1"):  # with one of the two OpenSSL makes do
        parts[name] ^= 1 << 100
    broken = rsa.RSAPrivateNumbers(**parts, public_numbers=numbers.public_numbers)
    pem = pkcs8(broken.private_key(unsafe_skip_rsa_key_validation=True))
    with pytest.raises(DkimKeyError, match="is damaged"):
        dkim.load_private_key(pem)
