"""Is a body HTML or plain text? For APIs that have one field for both.

Guarantees: pure, linear time; a body that holds a known tag of HTML is HTML, any other is plain text and stays as it
is. A word that people also put in angle brackets for a value to fill in (`cp <source> <target>`) counts as a tag only
with an attribute or as an end tag. It does not ask whether the HTML is right.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Final

_STEP_CHARACTERS: Final = 16 * 1024  # looked through at once: about a millisecond at worst
_OVERLAP_CHARACTERS: Final = 1024  # what is cut by the end of a step is seen whole in the next one, up to this length
_MAX_LIKE_TAGS: Final = 10_000  # words in angle brackets that are no tag; what has so many of them is no HTML

# Elements of the HTML standard and those it made obsolete, but for the words below.
_ELEMENT_NAMES: Final = (
    "!doctype a abbr acronym article aside b bdi bdo big blockquote body br caption center cite code col "
    "colgroup dd del dfn dir div dl dt em fieldset figcaption figure font footer h1 h2 h3 h4 h5 h6 head header "
    "hgroup hr html i iframe img ins kbd legend li main mark marquee nav nobr noscript ol optgroup p picture pre "
    "q rp rt ruby s samp script section small span strike strong style sub sup svg table tbody td tfoot th thead "
    "tr tt u ul wbr"
)
_WORD_NAMES: Final = (
    "address area audio base button canvas data datalist details dialog embed form frame frameset image input "
    "label link map menu meta meter object option output param progress search select slot source summary "
    "template textarea time title track var video"
)
_ELEMENTS: Final = frozenset(_ELEMENT_NAMES.split())
_WORDS: Final = frozenset(_WORD_NAMES.split())
# A tag as far as its end, or as far as the quote of its first value: an image may be in it, longer than any step.
_TAG: Final = re.compile(
    r"""<(/?)(!?[A-Za-z][A-Za-z0-9]{0,15})(?:([\s/][^<>]*+)?>|(\s++[A-Za-z-]{1,20}+\s*+=\s*+["']))""", re.ASCII
)


def is_html(body: str) -> bool:
    """Whether the body holds a tag."""
    return any(map(_is_known, itertools.islice(_like_tags(body), _MAX_LIKE_TAGS)))


def _like_tags(body: str) -> Iterator[re.Match[str]]:
    for start in range(0, len(body), _STEP_CHARACTERS):
        yield from _TAG.finditer(body, start, start + _STEP_CHARACTERS + _OVERLAP_CHARACTERS)


def _is_known(tag: re.Match[str]) -> bool:
    slash, name, attributes, attribute = tag.groups(default="")
    name = name.lower()
    return name in _ELEMENTS or (name in _WORDS and (slash == "/" or "=" in attributes or attribute != ""))
