"""The operations on mail that was accepted, and on its events, as the documentation describes them.

Guarantees: as operations.py has them.
"""

from typing import Any, Final

from gateway.api import answers, content, events, parameters, search, status
from gateway.api.described import BODY, READ, Described, Success

_UUID: Final = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_EITHER: Final = "send or manage"
_MESSAGE_ID: Final[dict[str, Any]] = {
    "description": "The message's id, as `eml_…` or as a UUID.",
    "schema": {
        "type": "string",
        "anyOf": [{"pattern": answers.MESSAGE_ID["pattern"]}, {"pattern": f"^{_UUID}$"}],
        "examples": answers.MESSAGE_ID["examples"],
    },
}
# What can be asked of a message, and where its id stands in the answer to its sending.
OF_MESSAGE: Final = tuple(
    (name, "/data/message_id")
    for name in (
        *("getEmail", "getContent", "getEmailEvents"),
        *("cancelEmail", "retryEmail", "releaseEmail", "rescheduleEmail"),
    )
)


def _of_message(path: str) -> str:
    return path.replace("{}", "{id}")


def _change(name: str, verb: str, title: str, text: str, *, scope: str = _EITHER) -> Described:
    return Described(
        name,
        "POST",
        f"{_of_message(status.PATH)}/{verb}",
        title,
        f"{text} A recipient that is being tried is left to its attempt. 409 where nothing could be done.",
        scope,
        {200: Success("It was done.", "MessageChanged")},
        (*READ, 403, 404, 409),
        argument=_MESSAGE_ID,
    )


OPERATIONS: Final = (
    Described(
        "getEmail",
        "GET",
        status.PATH.replace("{}", "{id}"),
        "Show a message",
        "Where a message stands, recipient by recipient.",
        "read",
        {200: Success("The message.", "Message")},
        (*READ, 403, 404),
        argument=_MESSAGE_ID,
    ),
    Described(
        "searchEmails",
        "GET",
        search.PATH,
        "Search messages",
        "The account's messages, the newest first; all conditions that are given must hold. One answer costs a bounded"
        " look: it may be empty and still say `has_more`.",
        "read",
        {200: Success("A page of them.", listed="Message")},
        (*READ, 403),
        parameters=parameters.SEARCH,
    ),
    Described(
        "getContent",
        "GET",
        _of_message(content.PATH),
        "Show a message's content",
        "The message as it is stored, while it is: without what each attempt adds (signatures, tracking).",
        "read",
        {200: Success("The message.", body="Content", content_type=content.CONTENT_TYPE)},
        (*READ, 403, 404),
        argument=_MESSAGE_ID,
    ),
    Described(
        "getEmailEvents",
        "GET",
        _of_message(events.OF_MESSAGE),
        "List a message's events",
        "What happened to one message, in order.",
        "read",
        {200: Success("A page of them.", listed="Event")},
        (*READ, 403, 404),
        argument=_MESSAGE_ID,
        parameters=parameters.EVENTS_OF_MESSAGE,
    ),
    _change("cancelEmail", "cancel", "Cancel a message", "Ends it for every recipient that is not final."),
    _change("retryEmail", "retry", "Try a message again", "Now, for every recipient that waits for another try."),
    _change("releaseEmail", "release", "Release a message", "Lets go what was held.", scope="manage"),
    Described(
        "rescheduleEmail",
        "PATCH",
        _of_message(status.PATH),
        "Send a message at another time",
        "Moves a scheduled message, all its recipients or none: earlier, later, or `now`. How long it is tried stays.",
        _EITHER,
        {200: Success("It was moved.", "MessageChanged")},
        (400, 401, 403, 404, *BODY, 409, 422, 429, 500, 503),
        argument=_MESSAGE_ID,
        body="Appointment",
        example={"send_at": "in 10m"},
    ),
    Described(
        "listEvents",
        "GET",
        events.PATH,
        "Read the event log",
        "What happened to the account's mail, in order. Go on with `next_cursor`, which is always given, and nothing is"
        " missed or seen twice. With `Accept: text/event-stream` it is a stream of server-sent events that does not"
        " end: `id` is the cursor, `event` the type, `data` the same JSON; it takes neither `limit` nor `wait`, and is"
        " resumed with `Last-Event-ID`.",
        "read",
        {200: Success("A page of events.", listed="Event", streamed="text/event-stream")},
        (*READ, 403, 404),
        parameters=parameters.EVENTS,
    ),
)
