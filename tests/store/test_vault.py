"""The master key and what it wraps."""

import stat
from pathlib import Path

import pytest

from gateway.store.vault import KEY_BYTES, KEY_FILE, Vault, VaultError, load_master_key


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    key = load_master_key(tmp_path)
    assert len(key) == KEY_BYTES
    assert load_master_key(tmp_path) == key
    assert [entry.name for entry in tmp_path.iterdir()] == [KEY_FILE]
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    load_master_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(VaultError, match="chmod 600"):
        load_master_key(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x" * (KEY_BYTES - 1), b"x" * (KEY_BYTES + 1)])
def test_a_damaged_key_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(VaultError, match="not a master key"):
        load_master_key(tmp_path)
    assert path.read_bytes() == content


def test_a_missing_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="No such file"):
        load_master_key(tmp_path / "missing")


def test_what_is_wrapped_comes_back(tmp_path: Path) -> None:
    vault = Vault(load_master_key(tmp_path))
    wrapped = vault.wrap("dkim", b"secret")
    assert b"secret" not in wrapped
    assert vault.wrap("dkim", b"secret") != wrapped
    assert vault.unwrap("dkim", wrapped) == b"secret"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda wrapped: wrapped[:-1] + bytes([wrapped[-1] ^ 1]),
        lambda wrapped: wrapped[:1] + bytes([wrapped[1] ^ 1]) + wrapped[2:],
        lambda wrapped: wrapped[:13],
        lambda wrapped: wrapped[:5],
    ],
)
def test_a_spoilt_secret_is_refused(spoil: "object") -> None:
    vault = Vault(b"k" * KEY_BYTES)
    assert callable(spoil)
    with pytest.raises(VaultError, match="cannot be unwrapped"):
        vault.unwrap("dkim", spoil(vault.wrap("dkim", b"secret")))


def test_another_key_another_name_another_form(tmp_path: Path) -> None:
    vault = Vault(b"k" * KEY_BYTES)
    wrapped = vault.wrap("dkim", b"secret")
    with pytest.raises(VaultError, match="not the key it was wrapped with"):
        Vault(b"l" * KEY_BYTES).unwrap("dkim", wrapped)
    with pytest.raises(VaultError, match="cannot be unwrapped"):
        vault.unwrap("other", wrapped)
    with pytest.raises(VaultError, match="does not know"):
        vault.unwrap("dkim", b"\x02" + wrapped[1:])
    with pytest.raises(VaultError, match="32 bytes"):
        Vault(b"short")
