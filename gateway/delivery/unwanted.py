"""Who became suppressed between the acceptance of a message and its attempt.

Guarantees: nothing is asked of the store for addresses that were never suppressed.
"""

import msgspec

from gateway.delivery.errand import Said
from gateway.delivery.judging import SUPPRESSION
from gateway.delivery.verdict import Word
from gateway.policy import suppression
from gateway.policy.suppression import Suppressions
from gateway.store.queue import Claimed


async def without_suppressed(suppressions: Suppressions, claimed: Claimed, said: dict[int, Said]) -> Claimed:
    """The message without those who are not sent to; of them it is said why. Raises StoreError."""
    suspects = [recipient.address for recipient in claimed.recipients if suppressions.may_have(recipient.address)]
    if not suspects:
        return claimed
    entries = await suppressions.find(claimed.account, msgspec.json.decode(claimed.tags), suspects)
    left = []
    for recipient in claimed.recipients:
        entry = entries.get(recipient.address)
        if entry is None:
            left.append(recipient)
        else:
            text = f"550 5.7.1 {suppression.refused(entry)}"
            said[recipient.id] = Said(Word(SUPPRESSION, 550, "5.7.1", text, permanent=True))
    return msgspec.structs.replace(claimed, recipients=tuple(left))
