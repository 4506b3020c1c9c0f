"""The character sets that foreign mail names: which of Python's codecs reads one.

Guarantees: pure; only names that are listed here are ever asked for. Python keeps each name that it was asked for, also
one that means nothing, for as long as it runs, and some of its codecs are no character sets: one takes minutes for a
megabyte.
"""

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


def codec(name: str) -> str | None:
    """What to give to `bytes.decode` for a charset parameter; None where it names none."""
    return _CODECS.get(name.lower().replace("-", "_").replace(" ", "_"))
