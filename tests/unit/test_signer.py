"""The signing process: right signatures, errors and cancellation to the right caller, nothing left behind."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.delivery.signer import MAX_DEATHS, Signer, SigningError
from gateway.message import dkim
from gateway.message.dkim import Algorithm, PrivateKey


@cache
def rsa_key() -> PrivateKey:
    return dkim.load_private_key(dkim.generate_rsa())


def ed25519_key() -> PrivateKey:
    return PrivateKey(Algorithm.ED25519, ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)))


@pytest.fixture
async def signer() -> AsyncIterator[Signer]:
    made = Signer()
    yield made
    await made.close()


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def pid(signer: Signer) -> int:
    assert signer._process is not None
    return signer._process.pid


async def test_a_lone_signature_comes_back(signer: Signer) -> None:
    async with asyncio.timeout(10):
        assert await signer.sign(rsa_key(), digest("a")) == rsa_key().sign(digest("a"))


async def test_many_signatures_reach_their_own_callers(signer: Signer) -> None:
    keys = [rsa_key(), ed25519_key()]
    texts = [str(number) for number in range(300)]
    async with asyncio.timeout(20):
        signatures = await asyncio.gather(
            *(signer.sign(keys[number % 2], digest(text)) for number, text in enumerate(texts))
        )
    assert signatures == [keys[number % 2].sign(digest(text)) for number, text in enumerate(texts)]


async def test_more_than_the_socket_holds_is_sent_when_there_is_room(signer: Signer) -> None:
    signer.start()
    os.kill(pid(signer), signal.SIGSTOP)
    jobs = [signer.sign(ed25519_key(), digest(str(number))) for number in range(3000)]
    assert signer._unsent
    os.kill(pid(signer), signal.SIGCONT)
    async with asyncio.timeout(30):
        assert (await asyncio.gather(*jobs))[-1] == ed25519_key().sign(digest("2999"))
    assert not signer._unsent


async def test_an_error_is_the_callers_and_the_process_goes_on(signer: Signer) -> None:
    async with asyncio.timeout(10):
        for _ in range(3):
            with pytest.raises(SigningError):
                await signer.sign(rsa_key(), b"too short")
        first = pid(signer)
        assert await signer.sign(rsa_key(), digest("a")) == rsa_key().sign(digest("a"))
        assert pid(signer) == first


async def test_a_cancelled_job_hurts_no_other(signer: Signer) -> None:
    jobs = [signer.sign(rsa_key(), digest(str(number))) for number in range(6)]
    jobs[0].cancel()
    jobs[5].cancel()
    async with asyncio.timeout(10):
        results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [result for result in results if isinstance(result, bytes)] == [
        rsa_key().sign(digest(str(number))) for number in range(1, 5)
    ]


async def test_a_process_that_is_killed_is_started_again_and_asked_again(signer: Signer) -> None:
    async with asyncio.timeout(20):
        await signer.sign(rsa_key(), digest("first"))
        killed = pid(signer)
        os.kill(killed, signal.SIGSTOP)
        jobs = [signer.sign(rsa_key(), digest(str(number))) for number in range(5)]
        os.kill(killed, signal.SIGKILL)
        assert await asyncio.gather(*jobs) == [rsa_key().sign(digest(str(number))) for number in range(5)]
        assert pid(signer) != killed


async def test_a_process_that_cannot_live_fails_the_jobs_instead_of_waiting_for_ever(
    signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    async with asyncio.timeout(10):
        with pytest.raises(SigningError, match="keeps ending"):
            await signer.sign(rsa_key(), digest("a"))
        monkeypatch.undo()
        assert await signer.sign(rsa_key(), digest("a")) == rsa_key().sign(digest("a"))
    assert MAX_DEATHS < 10


async def test_signals_for_the_daemon_do_not_end_it(signer: Signer) -> None:
    async with asyncio.timeout(10):
        await signer.sign(rsa_key(), digest("a"))
        first = pid(signer)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(first, number)
        assert await signer.sign(rsa_key(), digest("b")) == rsa_key().sign(digest("b"))
        assert pid(signer) == first


async def test_close_ends_the_process_and_fails_what_is_open() -> None:
    signer = Signer()
    signer.start()
    process = signer._process
    assert process is not None
    job = signer.sign(rsa_key(), digest("a"))
    await signer.close()
    await signer.close()
    assert process.returncode == 0
    with pytest.raises(SigningError, match="closed"):
        await job
    with pytest.raises(RuntimeError, match="closed"):
        signer.sign(rsa_key(), digest("a"))


async def test_a_signer_that_never_signed_has_no_process() -> None:
    signer = Signer()
    await signer.close()
    assert signer._process is None
