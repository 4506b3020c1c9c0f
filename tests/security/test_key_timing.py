"""A key is not found out piece by piece, nor read from a stolen database (S3).

How long the judgement takes says nothing of how much of a key was right; and what the files of the store hold opens no
door: keys as digests, DKIM keys wrapped, passwords of relays not at all.
"""

import base64
import gc
import math
import random
import shutil
import statistics
import string
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import apsw
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.policy import auth
from gateway.policy.auth import KeyRing
from gateway.store.records import KeyRecord
from gateway.store.vault import Vault, load_master_key
from tests.peers.client import http_send, message_json
from tests.peers.daemon import ROOT, SECRET, Daemon, broken_twin, relay_to

pytestmark = pytest.mark.slow

# Time

NOW = 1_800_000_000_000
PEER = "192.0.2.7"
SAMPLES = 10_000  # of each kind
MOST_T = 4.5
KEPT = 0.8  # of the samples, the fastest: the rest is what else the machine did
ROUNDS = 3
CHARACTERS = string.ascii_letters + string.digits

Judge = Callable[[str], object]


@pytest.fixture
def keys() -> tuple[str, KeyRing]:
    """(one key, a ring with it among five hundred)."""
    texts = [auth.make_key() for _ in range(500)]
    ring = KeyRing()
    ring.load([_record(f"key{number}", auth.digest(text)) for number, text in enumerate(texts)], [])
    return texts[250], ring


def _record(name: str, digest: bytes) -> KeyRecord:
    return KeyRecord(
        name=name,
        digest=digest,
        hint="",
        account=name,
        route=None,
        senders=(),
        scopes=("send",),
        default_from=None,
        created_at=NOW,
        networks=(ip_network("192.0.2.0/24"),),
    )


def _text(begin: str, length: int) -> str:
    return begin + "".join(random.choices(CHARACTERS, k=length - len(begin)))


def _times(judge: Judge, kinds: Sequence[Sequence[str]]) -> list[list[int]]:
    """Nanoseconds for each text of each kind, all in one random order."""
    order = [(kind, text) for kind, texts in enumerate(kinds) for text in texts]
    random.shuffle(order)
    times: list[list[int]] = [[] for _ in kinds]
    clock = time.perf_counter_ns
    gc.collect()
    gc.disable()
    try:
        for kind, text in order:
            before = clock()
            judge(text)
            times[kind].append(clock() - before)
    finally:
        gc.enable()
    return times


def _welch(first: Sequence[int], second: Sequence[int]) -> float:
    """Welch's t, of what is below one threshold for both."""
    threshold = sorted([*first, *second])[int((len(first) + len(second)) * KEPT)]
    low, high = ([value for value in values if value <= threshold] for values in (first, second))
    spread = statistics.variance(low) / len(low) + statistics.variance(high) / len(high)
    return (statistics.fmean(low) - statistics.fmean(high)) / math.sqrt(spread)


def _t(judge: Judge, key: str) -> float:
    """How far the time for a text that begins as a key does is from that for any other: the best of some rounds."""

    def once() -> float:
        kinds = [[_text(begin, len(key)) for _ in range(SAMPLES)] for begin in (key[:-4], "")]
        first, second = _times(judge, kinds)
        return abs(_welch(first, second))

    best = math.inf
    for _ in range(ROUNDS):
        best = min(best, once())
        if best < MOST_T:
            break
    return best


def test_the_time_of_a_judgement_tells_nothing(keys: tuple[str, KeyRing]) -> None:
    key, ring = keys
    assert ring.judge(key, NOW, peer=PEER).fault is None
    assert _t(lambda text: ring.judge(text, NOW, peer=PEER), key) < MOST_T


def test_a_judgement_that_looks_at_the_beginning_first_is_seen(keys: tuple[str, KeyRing]) -> None:
    key, ring = keys
    known = {key[:8]}

    def hasty(text: str) -> object:
        return ring.judge(text, NOW, peer=PEER) if text[:8] in known else None

    assert _t(hasty, key) > MOST_T


def test_a_judgement_that_compares_character_by_character_is_seen(keys: tuple[str, KeyRing]) -> None:
    key, _ = keys

    def naive(text: str) -> object:
        return all(left == right for left, right in zip(text, key, strict=True))

    assert _t(naive, key) > MOST_T


# The files

STDIN_KEY = "of-the-operators-choice-9Kq2Zt"
RELAY_PASSWORD = "relay-password-7Yd4Wm"


@dataclass(frozen=True, slots=True)
class Stolen:
    """A copy of the database and its log, and what must not be in it."""

    content: bytes
    database: Path
    data: Path  # where it was stolen
    secrets: dict[str, str]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = apsw.Connection(str(self.database))
        try:
            return list(connection.execute(query))
        finally:
            connection.close()

    def hits(self) -> list[str]:
        forms = {
            f"{name} as {form}": encoded
            for name, secret in self.secrets.items()
            for form, encoded in _forms(secret).items()
        }
        return [what for what, form in forms.items() if form in self.content]


def _forms(secret: str) -> dict[str, bytes]:
    plain = secret.encode()
    shifts = {f"base64 {n}": base64.b64encode(b"\0" * n + plain)[4:-4] for n in range(3)}
    return {"it is": plain, "hex": plain.hex().encode(), "UTF-16": secret.encode("utf-16-le"), **shifts}


def _steal(tmp_path: Path, source: Path = ROOT) -> Stolen:
    """What is on the disk of a daemon that has worked, and was killed."""
    directory = tmp_path / "gw"
    password = tmp_path / "password"
    password.write_text(RELAY_PASSWORD)
    password.chmod(0o600)
    settings = relay_to(9, username="gateway", password={"file": str(password)})
    with Daemon(directory, settings, source=source) as daemon:
        texts = {
            "a key": daemon.json("key", "create", "made")["secret"],
            "a short key": daemon.json("key", "create", "device", "--short", "--ip", "192.0.2.0/24")["secret"],
            "a key before": daemon.json("key", "create", "rotated")["secret"],
            "a key after": daemon.json("key", "rotate", "rotated")["secret"],
            "a given key": STDIN_KEY,
            "a declared key": SECRET,
            "the relay's password": RELAY_PASSWORD,
        }
        daemon.cli("key", "create", "given", "--secret-stdin", stdin=STDIN_KEY)
        daemon.cli("domain", "add", "example.com")
        for text in (SECRET, STDIN_KEY):
            assert http_send(daemon.http_port, message_json("you@example.net"), secret=text).status == 201
        daemon.kill()
    loot = tmp_path / "loot"
    loot.mkdir()
    files = [path for path in daemon.data.iterdir() if path.name.startswith("gateway.db")]
    assert {path.suffix for path in files} >= {".db", ".db-wal"}
    for path in files:
        shutil.copy(path, loot)
    content = b"".join(path.read_bytes() for path in sorted(loot.iterdir()))
    assert b"you@example.net" in content, "nothing was written"
    return Stolen(content, loot / "gateway.db", daemon.data, texts)


@pytest.fixture(scope="module")
def stolen(tmp_path_factory: pytest.TempPathFactory) -> Stolen:
    return _steal(tmp_path_factory.mktemp("stolen"))


def test_a_stolen_database_holds_no_usable_secret(stolen: Stolen) -> None:
    assert stolen.hits() == []
    assert b"PRIVATE KEY" not in stolen.content


def test_its_dkim_key_is_wrapped_by_the_master_key(stolen: Stolen) -> None:
    ((selector, wrapped),) = stolen.rows("SELECT selector, private_wrapped FROM dkim_key")
    assert isinstance(wrapped, bytes)
    master = load_master_key(stolen.data)
    assert master not in stolen.content
    pem = Vault(master).unwrap(f"dkim:example.com:{selector}", wrapped)
    private = serialization.load_pem_private_key(pem, None)
    assert isinstance(private, rsa.RSAPrivateKey)
    prime = private.private_numbers().p.to_bytes(128, "big")
    for form in (prime, prime[::-1], *pem.splitlines()[2:-1]):
        assert form not in stolen.content


def test_what_is_stored_of_a_key_is_no_key(stolen: Stolen) -> None:
    rows = stolen.rows("SELECT name, digest, old_digest, hint FROM key")
    assert {row[0] for row in rows} == {"made", "device", "rotated", "given"}
    ring = KeyRing()
    ring.load([_record(str(name), bytes(digest)) for name, digest, *_ in rows], [])
    assert ring.judge(stolen.secrets["a key"], NOW, peer=PEER).fault is None
    for value in (value for row in rows for value in row if value is not None):
        for text in [value] if isinstance(value, str) else _texts(value):
            assert ring.judge(text, NOW, peer=PEER).principal is None


def _texts(digest: bytes) -> list[str]:
    """What a client could send of it."""
    encoded = base64.b64encode(digest).decode()
    return [digest.hex(), encoded, digest.decode("latin-1"), digest.decode("utf-8", "surrogateescape")]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("policy/auth.py", 'hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()', "text.encode()"),
        ("policy/auth.py", "_HINT_CHARACTERS if len(text) > SHORT_LENGTH", "len(text) if len(text) > SHORT_LENGTH"),
    ],
)
def test_a_store_that_keeps_keys_is_seen(tmp_path: Path, file: str, old: str, new: str) -> None:
    stolen = _steal(tmp_path, broken_twin(tmp_path / "twin", file, old, new))
    assert "a key as it is" in stolen.hits()


def test_a_vault_that_does_not_wrap_is_seen(tmp_path: Path) -> None:
    cipher = "self._cipher.encrypt(nonce, plain, name.encode())"
    more = "\n\nVault.unwrap = lambda self, name, wrapped: wrapped[1 + _NONCE_BYTES :]\n"
    twin = broken_twin(tmp_path / "twin", "store/vault.py", cipher, "plain", more=more)
    assert b"PRIVATE KEY" in _steal(tmp_path, twin).content
