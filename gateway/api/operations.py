"""The native API's operations as its documentation describes them: what each takes, answers and refuses.

Guarantees: a literal for each operation, held against the served ones and their answers by tests. It serves nothing.
"""

from typing import Any, Final

from gateway.api import (
    batch,
    health,
    mailoperations,
    me,
    send,
    suppressions,
    suppressionshapes,
    templates,
    webhookoperations,
)
from gateway.api.described import BODY, READ, Described, Success
from gateway.api.envelope import DOCS

OPENAPI: Final = "/api/v1/openapi.json"

_MAIL: Final[dict[str, Any]] = {
    "from": "Shop <shop@example.com>",
    "to": [{"email": "ann@example.org", "name": "Ann"}],
    "subject": "Your order",
    "html_body": "<p>Thank you for order 4711.</p>",
}
_BATCH: Final[dict[str, Any]] = {
    "messages": [
        {**_MAIL, "text_body": "Hello {{name}}", "html_body": "<p>Hello {{name}}</p>", "variables": {"name": "Ann"}},
        {**_MAIL, "to": "bob@example.org", "ttl": "4h", "tags": ["order"]},
    ]
}
_TEMPLATE: Final[dict[str, Any]] = {
    "alias": "welcome",
    "subject": "Welcome, {{name|friend}}",
    "html_body": "<p>Hello {{name|friend}}</p>",
    "text_body": "Hello {{name|friend}}",
}


_TEMPLATE_ID: Final[dict[str, Any]] = {
    "description": "The template's id or alias.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "examples": ["welcome"]},
}
_ONE: Final = f"{templates.PATH}/{{id}}"


OPERATIONS: Final = (
    Described(
        "sendEmail",
        "POST",
        send.PATH,
        "Send a message",
        "Takes one message, and answers once it is on disk. With `wait` it answers when every recipient has a final"
        " state (200), or at the end of the wait (202). The request cannot choose its route: the key does.",
        "send",
        {
            201: Success("It was accepted.", "Receipt", replays=True, links=mailoperations.OF_MESSAGE),
            200: Success("With `wait`: every recipient has a final state.", "Message", replays=True),
            202: Success("With `wait`: it was accepted, and a recipient is still open.", "Message", replays=True),
        },
        (400, 401, 403, *BODY, 409, 422, 429, 500, 503),
        body="Mail",
        example=_MAIL,
        idempotent=True,
    ),
    Described(
        "sendBatch",
        "POST",
        batch.PATH,
        "Send a batch",
        "Takes many messages, each with a result of its own in the order of the request. An item that is wrong fails"
        " alone; what is accepted is stored together. A batch counts as one request towards a key's limits, and with"
        " all its messages and recipients.",
        "send",
        {
            201: Success(
                "Each message was accepted or failed, as its result says.",
                "BatchReceipt",
                replays=True,
                links=(("getEmail", "/data/results/0/message_id"),),
            )
        },
        (400, 401, 403, *BODY, 409, 422, 429, 500, 503),
        body="Batch",
        example=_BATCH,
        idempotent=True,
    ),
    *mailoperations.OPERATIONS,
    Described(
        "createTemplate",
        "POST",
        templates.PATH,
        "Make a template",
        "Stores a template; every problem of it is told at once.",
        "manage",
        {
            201: Success(
                "It was stored.",
                "Template",
                links=tuple((name, "/data/id") for name in ("getTemplate", "replaceTemplate", "removeTemplate")),
            )
        },
        (400, 401, 403, *BODY, 409, 422, 429, 500, 503),
        body="TemplateText",
        example=_TEMPLATE,
    ),
    Described(
        "listTemplates",
        "GET",
        templates.PATH,
        "List templates",
        "The account's own, and those of the gateway's directory of templates, without their bodies.",
        "read",
        {200: Success("All of them.", "TemplateList")},
        (*READ, 403),
    ),
    Described(
        "getTemplate",
        "GET",
        _ONE,
        "Show a template",
        "One template, with its bodies.",
        "read",
        {200: Success("The template.", "Template")},
        (*READ, 403, 404),
        argument=_TEMPLATE_ID,
    ),
    Described(
        "replaceTemplate",
        "PUT",
        _ONE,
        "Replace a template",
        "Stores another text in its place; it keeps its id, and its alias where none is given.",
        "manage",
        {200: Success("It was stored.", "Template")},
        (400, 401, 403, 404, *BODY, 409, 422, 429, 500, 503),
        argument=_TEMPLATE_ID,
        body="TemplateText",
        example=_TEMPLATE,
    ),
    Described(
        "removeTemplate",
        "DELETE",
        _ONE,
        "Remove a template",
        "Removes it for good.",
        "manage",
        {200: Success("It is gone.", "TemplateRemoved")},
        (*READ, 403, 404, 409, 422),
        argument=_TEMPLATE_ID,
    ),
    Described(
        "listSuppressions",
        "GET",
        suppressions.PATH,
        "List suppressions",
        "Addresses and domains that the account does not send to, the newest first. What the operator suppressed for"
        " everybody applies, and is not listed.",
        "read",
        {200: Success("A page of them.", listed="Suppression")},
        (*READ, 403, 422),
        parameters=suppressionshapes.FILTERS,
    ),
    Described(
        "addSuppressions",
        "POST",
        suppressions.PATH,
        "Add suppressions",
        f"Suppresses an address or a domain for the account's mail, or up to {suppressions.MOST} at once. Of two for"
        " the same address and tag the stronger reason stays (operator, complaint, unsubscribe, bounce), and the later"
        " end.",
        "manage",
        {
            201: Success(
                "One was added; as it stands now.", "Suppression", links=(("removeSuppression", "/data/address"),)
            ),
            200: Success("Of many each was added or refused.", "SuppressionsAdded"),
        },
        (400, 401, 403, *BODY, 422, 429, 500, 503),
        body="SuppressionAddition",
        example=suppressionshapes.EXAMPLE,
    ),
    Described(
        "removeSuppressions",
        "DELETE",
        suppressions.PATH,
        "Remove suppressions",
        f"Removes up to {suppressions.MOST} at once, so that they are sent to again.",
        "manage",
        {200: Success("They are gone.", "SuppressionsRemoved")},
        (400, 401, 403, *BODY, 422, 429, 500, 503),
        body="SuppressionRemoval",
        example=suppressionshapes.REMOVAL_EXAMPLE,
    ),
    Described(
        "removeSuppression",
        "DELETE",
        suppressions.ONE.replace("{}", "{id}"),
        "Remove a suppression",
        "Removes an address or a domain, so that it is sent to again.",
        "manage",
        {200: Success("It is gone.", "SuppressionRemoved")},
        (*READ, 403, 404, 422),
        argument=suppressionshapes.ARGUMENT,
        parameters=suppressionshapes.REMOVAL,
    ),
    *webhookoperations.OPERATIONS,
    Described(
        "getKey",
        "GET",
        me.PATH,
        "Show the key",
        "What the key that asks may do, and what is left of its limits.",
        "",
        {200: Success("The key.", "Key")},
        READ,
    ),
    Described(
        "getOpenApi",
        "GET",
        OPENAPI,
        "This description",
        "The API as an OpenAPI document.",
        None,
        {200: Success("An OpenAPI 3.1 document.", body="Document")},
        (400, 500, 503),
    ),
    Described(
        "getDocs",
        "GET",
        DOCS,
        "This page",
        "The API as a page for people.",
        None,
        {200: Success("A page.", body="Page", content_type="text/html; charset=utf-8")},
        (400, 500, 503),
    ),
    Described(
        "getLive",
        "GET",
        health.LIVE_PATH,
        "Is it alive?",
        "Answers as long as the gateway runs.",
        None,
        {200: Success("It runs.", body="Health")},
        (400, 500, 503),
    ),
    Described(
        "getReady",
        "GET",
        health.READY_PATH,
        "Does it take mail?",
        "For load balancers.",
        None,
        {200: Success("It takes mail.", body="Health"), 503: Success("It does not now.", body="Unready")},
        (400, 500),
    ),
)
