"""The character sets that foreign mail names: which of Python's codecs reads one.

Guarantees: pure; only names that are listed here are ever asked for. Python keeps each name that it was asked for, also
one that means nothing, for as long as it runs, and some of its codecs are no character sets: one takes minutes for a
megabyte.
"""

import re
from encodings.aliases import aliases
from typing import Final

_NO_CHARSETS: Final = frozenset(
    {"base64_codec", "bz2_codec", "hex_codec", "mbcs", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}
)
_UNLISTED: Final = ("cp720", "cp737", "cp856", "cp874", "cp875", "iso8859_1", "koi8_t", "koi8_u", "utf_8_sig")
_CODECS: Final = {
    name: codec
    for name, codec in [*aliases.items(), *[(codec, codec) for codec in (*aliases.values(), *_UNLISTED)]]
    if codec not in _NO_CHARSETS
}
# As Python does: mail has `'utf-8'` and `ISO_8859-1:1987`.
_PUNCTUATION: Final = re.compile(r"[^a-z0-9.]+")


def codec(name: str) -> str | None:
    """What to give to `bytes.decode` for a charset parameter; None where it names none."""
    return _CODECS.get(_PUNCTUATION.sub("_", name.lower()).strip("_"))
