"""The second opinions themselves: both say yes to a good signature and no to an altered or unsigned
message."""

from pathlib import Path

import dkim
import pytest

from tests.peers import opendkim
from tests.peers.client import message_bytes
from tests.peers.daemon import SELECTOR, dkim_domain

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("verify", [opendkim.verify_dkimpy, opendkim.verify_opendkim])
def test_verifiers_tell_good_from_bad(verify: opendkim.Verify, tmp_path: Path) -> None:
    settings, txt = dkim_domain(tmp_path)
    _, other = dkim_domain(tmp_path / "other")
    message = message_bytes("you@example.net")
    key = Path(settings["domains"]["example.com"]["dkim"][0]["key"]).read_bytes()
    signed = dkim.sign(message, SELECTOR.encode(), b"example.com", key) + message
    assert verify(signed, txt)
    assert not verify(signed.replace(b"It works", b"It fails"), txt)
    assert not verify(signed.replace(b"Subject: to", b"Subject: of"), txt)
    assert not verify(signed, other)
    assert not verify(message, txt)
