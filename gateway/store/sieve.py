"""Which texts are certainly not in a set, without asking for it: a Bloom filter that grows.

Guarantees: what was added is never denied; of others some 1 in 400 may be there, for each layer. The texts themselves
are not kept. One thread adds, any thread asks; nothing is taken out, but a new sieve is made at the next start.
"""

from typing import Final

BITS_EACH: Final = 16  # of a text that fits; two bytes a text
PROBES: Final = 4
FIRST_TEXTS: Final = 4096
HASHED: Final = "hash:"  # how a text begins that stands for an address which is not kept (Tokens.hashed)
GROWTH: Final = 8  # of a layer after the one before: few layers are asked, and few bytes are wasted


class Layer:
    """Bits for so many texts; more make it say "maybe" more often, no worse."""

    __slots__ = ("_bits", "_mask", "has_hashes", "left")

    def __init__(self, texts: int) -> None:
        size = 1 << (max(texts, FIRST_TEXTS) * BITS_EACH - 1).bit_length()
        self._bits = bytearray(size >> 3)
        self._mask = size - 1
        self.left = size // BITS_EACH  # texts for which there is room
        self.has_hashes = False

    @property
    def size_bytes(self) -> int:
        return len(self._bits)

    def add(self, text: str) -> None:
        # The hash of this process, with its secret: nobody can make texts that fall together.
        hashed = hash(text)
        step = (hashed >> 32) | 1
        place = hashed & self._mask
        for _ in range(PROBES):
            self._bits[place >> 3] |= 1 << (place & 7)
            place = (place + step) & self._mask
        self.left -= 1
        if text.startswith(HASHED):
            self.has_hashes = True

    def may_have(self, hashed: int) -> bool:
        """`hashed` is the hash of a text."""
        mask, bits = self._mask, self._bits
        place = hashed & mask
        if not bits[place >> 3] >> (place & 7) & 1:  # nearly always the end of it
            return False
        step = (hashed >> 32) | 1
        for _ in range(PROBES - 1):
            place = (place + step) & mask
            if not bits[place >> 3] >> (place & 7) & 1:
                return False
        return True


class Sieve:
    """Until `settle` was called anything may be in it: what was there before is not known yet."""

    __slots__ = ("_grown", "_hashes", "_known", "_settled")

    def __init__(self) -> None:
        self._hashes = False  # came since
        self._settled = False
        self._known: Layer | None = None  # what was there at the start
        self._grown: tuple[Layer, ...] = ()  # what came since

    def settle(self, known: Layer | None) -> None:
        """With `known`, all is in it that was there before the first `add`; None: nothing was."""
        self._known = known
        self._settled = True

    @property
    def is_settled(self) -> bool:
        return self._settled

    @property
    def is_empty(self) -> bool:
        """Certainly nothing is in it."""
        return self._settled and self._known is None and not self._grown

    @property
    def may_have_hashes(self) -> bool:
        return self._hashes or not self._settled or (self._known is not None and self._known.has_hashes)

    @property
    def size_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self._layers)

    def add(self, text: str) -> None:
        """Before others may rely on it; in one thread only."""
        if text.startswith(HASHED):
            self._hashes = True
        hashed = hash(text)
        if any(layer.may_have(hashed) for layer in self._layers):
            return
        grown = self._grown
        if not grown or not grown[-1].left:
            texts = FIRST_TEXTS * GROWTH ** len(grown)
            self._grown = grown = (*grown, Layer(texts))
        grown[-1].add(text)

    def may_have(self, text: str) -> bool:
        if not self._settled:
            return True
        hashed = hash(text)
        known = self._known
        if known is not None and known.may_have(hashed):
            return True
        for layer in self._grown:  # noqa: SIM110 - any() takes three times as long
            if layer.may_have(hashed):
                return True
        return False

    @property
    def _layers(self) -> tuple[Layer, ...]:
        return self._grown if self._known is None else (self._known, *self._grown)
