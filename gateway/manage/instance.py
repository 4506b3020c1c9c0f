"""The secret of the instance, from which its tokens are made: made once, kept wrapped.

Guarantees: the same at every start, also of another process; who lacks the master key has no token.
"""

import secrets
from typing import Final

from gateway.store.records import Records
from gateway.store.vault import Vault
from gateway.tokens import SECRET_BYTES, Tokens

_NAME: Final = "tokens"


async def load_tokens(records: Records, vault: Vault) -> Tokens:
    """Raises StoreError."""
    wrapped = await records.secret(_NAME)
    if wrapped is not None:
        return Tokens(vault.unwrap(_NAME, wrapped))
    secret = secrets.token_bytes(SECRET_BYTES)
    await records.put_secret(_NAME, vault.wrap(_NAME, secret))
    return Tokens(secret)
