"""What the door says of a recipient and of content, as the reply to the client; None where there is none yet.

Guarantees: a refusal is answered with its own reply; an unforeseen error is logged and answered with a temporary one,
never with its text. It decides nothing: the door does, and the engine goes on with the reply.
"""

import logging

from gateway.errors import GatewayError
from gateway.smtp import replies
from gateway.smtp.door import Door
from gateway.smtp.engine import Engine
from gateway.smtp.need import Need

log = logging.getLogger("gateway.smtp")


async def of_recipient(door: Door, engine: Engine, peer: str) -> bytes | None:
    """Have the suspect of the transaction judged; a reply refuses it."""
    transaction = engine.transaction
    assert transaction is not None
    try:
        await door.judge_recipient(transaction.principal, transaction.suspect, peer)
    except GatewayError as error:
        return replies.of(error)
    except Exception:
        log.exception("a recipient from %s could not be judged", peer)
        return replies.OUR_FAULT
    return None


async def of_content(door: Door, engine: Engine, need: Need, peer: str) -> bytes | None:
    """Give the piece to the door, for STORE or COMMIT; the reply, or None if there is none yet."""
    transaction = engine.transaction
    assert transaction is not None
    try:
        if transaction.receiving is None:
            transaction.receiving = door.begin(transaction.principal, engine.envelope)
        if need is Need.COMMIT:
            name = await transaction.receiving.finish(engine.piece)
            return replies.queued(name) if name else replies.OK
        await transaction.receiving.add(engine.piece)
    except GatewayError as error:
        return replies.of(error)
    except Exception:
        log.exception("a message from %s could not be taken", peer)
        return replies.OUR_FAULT
    return None
