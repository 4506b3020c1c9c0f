"""Hostile text, the places of a request where it can stand, and what a message must look like that was made of it.

Places are found in the API's own description, so that a new field is attacked on the day it is described.
"""

import base64
import email.policy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from typing import Any, Final

from gateway.api import attachment, message

EVIL: Final = "evil.example"  # no mail may go there
_INJECTED: Final = f"Bcc: eve@{EVIL}"
_WORD: Final = base64.b64encode(f"x\r\n{_INJECTED}\r\n".encode()).decode()
_PART: Final = f"Content-Type: text/html\r\nX-Evil: 1\r\n\r\n{EVIL}\r\n"

PAYLOADS: Final = (
    *(f"{end}{_INJECTED}" for end in ("\r\n", "\n", "\r", "\r\n ", "\0", "\x0b", "\x0c", "\x1c", "\x85")),
    *(
        f"{end}{_INJECTED}"
        for end in ("\u2028", "\u2029", "\u010d\u010a", "\u560d\u560a", "%0d%0a", "\\r\\n", "\\u000a")
    ),
    *("\n", "\r\n", "\r", "\0", "\x1b[2J", "\x7f", "\ud800", "\udc0a"),
    f"\r\n\r\n{_PART}",
    f"\r\n.\r\nMAIL FROM:<eve@{EVIL}>\r\nRCPT TO:<eve@{EVIL}>\r\nDATA\r\n{_INJECTED}\r\n\r\nx\r\n.\r\n",
    f"=?UTF-8?Q?=0A{_INJECTED.replace(' ', '_')}?=",
    f"=?utf-8?b?{_WORD}?=",
    "=?UTF-8?Q?=0A?=",
    f"=?utf-8?q?=22=3E=2C_=3Ceve=40{EVIL}=3E?=",
    f'"; filename="{EVIL}.exe',
    f'"\r\nX-Evil: 1\r\nX: "{EVIL}',
    f"; boundary=x; name={EVIL}",
    f">, <eve@{EVIL}",
    f"> ORCPT=rfc822;x <eve@{EVIL}",
    f", eve@{EVIL}",
    f"; eve@{EVIL}",
    f":eve@{EVIL};",
    f" <eve@{EVIL}>",
    "X-Evil: 1",
    ": 1\r\nX-Evil",
    " ",
    ":",
    # Boundaries of this gateway's form, for a writer that makes them of nothing (or of what can be known).
    *(f"\r\n--=_{bytes(12).hex()}{layer}\r\n{_PART}--=_{bytes(12).hex()}{layer}--\r\n" for layer in "mar"),
    f"\r\n--{_PART}",
)

NAME: Final = "*name*"  # in a path: the name of a member
ANY: Final = "*any*"  # the value of a member of any name

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """`path` leads to a string of the request, `sample` is one that is taken there."""

    path: Path
    sample: str

    def __str__(self) -> str:
        return ".".join(map(str, self.path))


BASE: Final[dict[str, Any]] = {
    "from": {"email": "ann@example.com", "name": "Ann"},
    "to": [{"email": "box@example.net", "name": "Box"}],
    "cc": [{"email": "cc@example.net", "name": "Copy"}],
    "bcc": [{"email": "bcc@example.net", "name": "Blind"}],
    "reply_to": [{"email": "reply@example.net", "name": "Reply"}],
    "subject": "Hello",
    "html_body": "<p>Hello</p>",
    "text_body": "Hello\n",
    "attachments": [
        {
            "filename": "a.csv",
            "content": "YSxiCg==",
            "content_type": "text/csv",
            "content_id": "logo",
            "disposition": "attachment",
        }
    ],
    "headers": {"X-Foo": "bar"},
    "tags": ["one"],
    "metadata": {"order": "4711"},
    "return_path": "bounce@example.net",
}
# What is taken where it stands, by the last names of a path; a member of no name of its own is looked up by its list's.
SAMPLES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("from", "to", "cc", "bcc", "reply_to"), "Box <box@example.net>"),
    "email": "box@example.net",
    "name": "Box",
    "subject": "Hello",
    "html_body": "<p>Hello</p>",
    "text_body": "Hello",
    "filename": "a.csv",
    "content": "YSxiCg==",
    "content_type": "text/csv",
    "content_id": "logo",
    "disposition": "attachment",
    "encoding": "base64",
    f"headers.{NAME}": "X-Foo",
    f"headers.{ANY}": "bar",
    "tags": "one",
    f"metadata.{NAME}": "order",
    f"metadata.{ANY}": "4711",
    "return_path": "bounce@example.net",
    "template": "welcome",
    "unsubscribe": "news",
    "tag": "news",
    f"variables.{NAME}": "who",
    f"variables.{ANY}": "Ann",
    "send_at": "2020-01-01T00:00:00Z",
    "ttl": "4h",
    "wait": "1ms",
    "idempotency_key": "key",
    "alias": "welcome",
}
ALIASES: Final = {
    alias: field.name
    for table in (message.TABLE, attachment.TABLE)
    for field in table.fields
    for alias in field.aliases
}


def places(schema: Mapping[str, Any], components: Mapping[str, Any]) -> list[Place]:
    """Every place of a string in what a schema describes. KeyError for a new field without a sample."""
    return [Place(path, _sample(path)) for path in dict.fromkeys(_paths(schema, components))]


def _paths(schema: Mapping[str, Any], components: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    if "$ref" in schema:
        yield from _paths(components[schema["$ref"].rpartition("/")[2]], components, path)
    for one in schema.get("anyOf", ()):
        yield from _paths(one, components, path)
    types = schema.get("type", ())
    if types == "string" or "string" in types:
        yield path
    if "items" in schema:
        yield from _paths(schema["items"], components, (*path, 0))
    for name, member in schema.get("properties", {}).items():
        yield from _paths(member, components, (*path, name))
    if isinstance(others := schema.get("additionalProperties"), dict):
        yield (*path, NAME)
        yield from _paths(others, components, (*path, ANY))


def _sample(path: Path) -> str:
    names = [ALIASES.get(str(name), str(name)) for name in path if name != 0]
    return SAMPLES[names[-1] if names[-1] not in {NAME, ANY} else ".".join(names[-2:])]


def request(place: Place, text: str, base: Mapping[str, Any] = BASE) -> dict[str, Any]:
    """`base` with `text` at that place, and without what does not go together with it."""
    top = str(place.path[0])
    rest = {name: value for name, value in base.items() if name != ALIASES.get(top)}
    if top == "template":
        del rest["html_body"], rest["text_body"]
    if top == "variables":
        rest |= {
            "variables": {"who": "Ann"},
            "subject": "Hello {{who|you}}",
            "html_body": "<p>{{who|you}}</p>",
            "text_body": "{{who|you}}",
        }
    changed: dict[str, Any] = _placed(rest, place.path, text)
    return changed


def _placed(value: Any, path: Path, text: str) -> Any:
    if not path:
        return text
    head, rest = path[0], path[1:]
    if head == 0:
        return [_placed(value[0] if isinstance(value, list) else None, rest, text)]
    if head == NAME:
        return {text: "Ann"}
    if head == ANY:
        return {(next(iter(value)) if isinstance(value, dict) else "X-Foo"): text}
    members = dict(value) if isinstance(value, dict) else {} if head == "tag" else {"email": "box@example.net"}
    canonical = ALIASES.get(str(head))
    if canonical is not None:
        members.pop(canonical, None)
    return {**members, head: _placed(members.get(str(head)), rest, text)}


def hostile(sample: str, *, everywhere: bool = True) -> Iterator[str]:
    """Each payload behind what is taken, and (`everywhere`) before it and inside."""
    middle = len(sample) // 2
    for payload in PAYLOADS:
        yield sample + payload
        if everywhere:
            yield payload + sample
            yield sample[:middle] + payload + sample[middle:]


# What may come of it

FIELDS: Final = frozenset(
    (
        *("from", "to", "cc", "reply-to", "subject", "date", "message-id", "x-foo"),
        *("mime-version", "content-type", "content-transfer-encoding"),
    )
)
_PART_FIELDS: Final = frozenset(("content-type", "content-transfer-encoding", "content-disposition", "content-id"))
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]")


def check(wire: bytes, *, parts: int, name: str = "") -> None:
    """Fail unless the message has the fields and the number of parts that were asked for, and nothing besides.

    `name`: a field that was asked for under a name of the request's own.
    """
    head = wire.partition(b"\r\n\r\n")[0].decode()
    assert _CONTROL.search(head) is None
    assert not re.search("\r(?!\n)|(?<!\r)\n", head)
    for policy in (email.policy.default, email.policy.compat32):
        read: Message = BytesParser(policy=policy).parsebytes(wire)
        names = [field.lower() for field in read.keys()]  # noqa: SIM118 - a name that stands twice must be seen
        assert len(set(names)) == len(names)
        assert set(names) <= FIELDS | {name.lower()}
        assert not read.defects
        leaves = [part for part in read.walk() if not part.is_multipart()]
        assert len(leaves) == parts
        for part in leaves if parts > 1 else []:
            assert {field.lower() for field in part} <= _PART_FIELDS
            parameters = part.get_params([], header="content-disposition") + part.get_params([])
            assert f"{EVIL}.exe" not in [value for _, value in parameters]
