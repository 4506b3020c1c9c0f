"""The signing threads: right signatures, errors and cancellation to the right caller, nothing left behind."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from functools import cache
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.delivery.signer import WAKE_EVERY, Signer
from gateway.message import dkim
from gateway.message.dkim import Algorithm, PrivateKey


@cache
def rsa_key() -> PrivateKey:
    return dkim.load_private_key(dkim.generate_rsa())


@pytest.fixture
async def signer() -> AsyncIterator[Signer]:
    made = Signer()
    yield made
    made.close()


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def signing_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("signer-")]


async def test_a_lone_signature_comes_back(signer: Signer) -> None:
    async with asyncio.timeout(5):
        assert await signer.sign(rsa_key(), digest("a")) == rsa_key().sign(digest("a"))


async def test_many_signatures_reach_their_own_callers(signer: Signer) -> None:
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    keys = [rsa_key(), PrivateKey(Algorithm.ED25519, private)]
    texts = [str(number) for number in range(60)]
    async with asyncio.timeout(10):
        signatures = await asyncio.gather(
            *(signer.sign(keys[number % 2], digest(text)) for number, text in enumerate(texts))
        )
    assert signatures == [keys[number % 2].sign(digest(text)) for number, text in enumerate(texts)]


@pytest.mark.parametrize("count", range(1, 2 * WAKE_EVERY + 3))
async def test_no_number_of_jobs_leaves_a_result_unannounced(signer: Signer, count: int) -> None:
    async with asyncio.timeout(5):
        for round_number in range(3):
            await asyncio.gather(*(signer.sign(rsa_key(), digest(f"{round_number}")) for _ in range(count)))


async def test_results_of_a_busy_loop_share_a_wake_up(signer: Signer) -> None:
    """The loop sleeps in one callback while everything is signed: one fetch resolves it all."""
    jobs = [signer.sign(rsa_key(), digest(str(number))) for number in range(20)]
    fetched: list[int] = []
    resolve = signer._resolve

    def counted() -> None:
        resolve()
        fetched.append(sum(job.done() for job in jobs))

    signer._resolve = counted  # type: ignore[method-assign]
    signer.close()  # blocks the loop until all is signed
    async with asyncio.timeout(5):
        await asyncio.gather(*jobs)
    assert fetched[-1] == len(jobs)
    assert len(fetched) <= 2  # one, or two where a thread woke the loop before `_resolve` was replaced


async def test_an_error_is_the_callers_and_the_thread_goes_on(signer: Signer) -> None:
    async with asyncio.timeout(5):
        for _ in range(5):
            with pytest.raises(ValueError, match="digest"):
                await signer.sign(rsa_key(), b"too short")
        assert await signer.sign(rsa_key(), digest("a")) == rsa_key().sign(digest("a"))


async def test_cancelled_jobs_are_skipped_and_others_are_not() -> None:
    """Every cancelled place, also the last of all: no other caller may wait for a wake-up that never comes."""
    for cancelled in range(6):
        signer = Signer()
        jobs = [signer.sign(rsa_key(), digest(str(number))) for number in range(6)]
        jobs[cancelled].cancel()
        async with asyncio.timeout(5):
            results = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(results[cancelled], asyncio.CancelledError)
        assert [result for result in results if isinstance(result, bytes)] == [
            rsa_key().sign(digest(str(number))) for number in range(6) if number != cancelled
        ]
        signer.close()


async def test_cancelling_after_it_was_signed_hurts_no_other_caller(signer: Signer) -> None:
    jobs = [signer.sign(rsa_key(), digest(str(number))) for number in range(3)]
    signer.close()  # all are signed now, and the results wait for the loop
    jobs[0].cancel()
    jobs[1].cancel()
    async with asyncio.timeout(5):
        assert await jobs[2] == rsa_key().sign(digest("2"))
    assert jobs[0].cancelled()


class GatedKey(PrivateKey):
    """Signs when the gate opens, and counts."""

    gate = threading.Event()
    signed: ClassVar[list[bytes]] = []

    def sign(self, digest: bytes) -> bytes:
        assert self.gate.wait(10)
        self.signed.append(digest)
        return digest


async def test_a_job_nobody_waits_for_is_not_computed(signer: Signer) -> None:
    key = GatedKey(Algorithm.RSA, rsa_key()._key)
    held = [signer.sign(key, digest(text)) for text in ("a", "b")]  # one for each thread
    given_up = signer.sign(key, digest("c"))
    given_up.cancel()
    key.gate.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*held)
    signer.close()
    assert sorted(key.signed) == sorted([digest("a"), digest("b")])


async def test_close_signs_what_was_handed_over_and_ends_the_threads() -> None:
    before = signing_threads()
    signer = Signer()
    assert len(signing_threads()) == len(before) + 2
    jobs = [signer.sign(rsa_key(), digest(str(number))) for number in range(9)]
    signer.close()
    signer.close()
    assert signing_threads() == before
    async with asyncio.timeout(5):
        assert len(await asyncio.gather(*jobs)) == 9
    with pytest.raises(RuntimeError, match="closed"):
        signer.sign(rsa_key(), digest("a"))


def test_a_loop_that_ended_first_does_not_hurt() -> None:
    signers: list[Signer] = []

    async def leave_work_behind() -> None:
        signer = Signer()
        signers.append(signer)
        for number in range(8):
            signer.sign(rsa_key(), digest(str(number)))

    asyncio.run(leave_work_behind())
    signers[0].close()
    assert signing_threads() == []
