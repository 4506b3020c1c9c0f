"""GET /api/v1/emails/{id}/content: a message as it is stored, which is as it was or will be sent but for what each
attempt adds (signatures, tracking).

Guarantees: nothing that reads the answer in a browser runs it; it is read in pieces, whatever its size.
"""

from typing import Final

from gateway.api import status
from gateway.api.dialect import Operation
from gateway.api.door import Call
from gateway.api.envelope import Answer
from gateway.api.query import Query
from gateway.api.service import Service
from gateway.api.streaming import Streamed
from gateway.errors import Reason, Refused

PATH: Final = f"{status.PATH}/content"
CONTENT_TYPE: Final = "message/rfc822"
_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
    ("Cache-Control", "private, no-store"),
)


async def show(service: Service, call: Call) -> Answer:
    """The operation. Raises Refused, StoreError."""
    principal = service.principal(call, call.bearer(), "read")
    Query(call.query, ()).end()
    uuid = status.parse_id(call.argument)
    archive = service.door.mail.archive
    found = await archive.content(uuid, principal.account) if uuid is not None else None
    if found is None:
        raise status.unknown()
    if found.size is None:
        text = "The content of this message was erased: it is kept as long as the retention of its key says."
        raise Refused(Reason.NOT_FOUND, text, param="id")
    name = ("Content-Disposition", f'attachment; filename="{call.argument}.eml"')  # an id: no character to escape
    return Streamed(
        200,
        b"",
        (name, *_HEADERS),
        content_type=CONTENT_TYPE,
        parts=archive.pieces(found),
        length=found.size,
    )


OPERATIONS: Final = (Operation("GET", PATH, show),)
