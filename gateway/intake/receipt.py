"""What a client is told of what it handed in."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.errors import Problem, Reason, Refused


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """`status` is "queued", "scheduled", "held" or "captured". `replayed`: it was accepted before under the same
    idempotency key."""

    uuid: bytes
    status: str
    replayed: bool


class Item(msgspec.Struct, frozen=True, gc=False):
    """What became of one message of a batch: its receipt, or why it was refused."""

    receipt: Receipt | None
    refused: Refused | None


class BatchReceipt(msgspec.Struct, frozen=True, gc=False):
    """In the order of the request. `replayed`: the whole request was accepted before under the same key, and these are
    its items as they were told then."""

    items: tuple[Item, ...]
    replayed: bool = False


def write(items: Sequence[Item]) -> str:
    """The items as JSON text, for a replay."""
    return msgspec.json.encode([_written(item) for item in items]).decode()


def read(text: str) -> BatchReceipt:
    """The inverse of `write`."""
    return BatchReceipt(tuple(_read(item) for item in msgspec.json.decode(text)), replayed=True)


def _written(item: Item) -> dict[str, Any]:
    if item.receipt is not None:
        return {"uuid": item.receipt.uuid.hex(), "status": item.receipt.status}
    assert item.refused is not None
    problems = [[problem.path, problem.message, problem.code] for problem in item.refused.problems]
    refused = item.refused
    return {"reason": refused.reason.name, "text": refused.text, "param": refused.param, "problems": problems}


def _read(item: dict[str, Any]) -> Item:
    if "uuid" in item:
        return Item(Receipt(bytes.fromhex(item["uuid"]), item["status"], replayed=False), None)
    problems = [Problem(path, message, code) for path, message, code in item["problems"]]
    return Item(None, Refused(Reason[item["reason"]], item["text"], param=item["param"], problems=problems))
