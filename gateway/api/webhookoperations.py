"""The operations on webhooks, as the documentation describes them.

Guarantees: as operations.py has them.
"""

from typing import Any, Final

from gateway.api import webhooks, webhookshapes
from gateway.api.described import BODY, READ, Described, Success


def _of_webhook(
    name: str,
    method: str,
    verb: str,
    title: str,
    *,
    text: str,
    answer: str,
    body: tuple[str, dict[str, Any]] | None = None,
    conflicts: bool = False,
) -> Described:
    """An operation on one webhook."""
    refusals = (*READ, 403, 404, *((409,) if conflicts else ()), *((*BODY, 422) if body is not None else ()))
    return Described(
        name,
        method,
        webhooks.ONE.replace("{}", "{id}") + verb,
        title,
        text,
        "manage",
        {200: Success("Done." if method != "GET" else "It.", answer)},
        refusals,
        argument=webhookshapes.ARGUMENT,
        body=body[0] if body is not None else "",
        example=body[1] if body is not None else None,
    )


OPERATIONS: Final = (
    Described(
        "createWebhook",
        "POST",
        webhooks.PATH,
        "Make a webhook",
        "Stores an endpoint and pings it; it is told of the account's events once it answered a ping.",
        "manage",
        {
            201: Success(
                "It was stored; with what came of the ping, and its secret.",
                "WebhookCreated",
                links=tuple(
                    (name, "/data/id") for name in ("getWebhook", "changeWebhook", "removeWebhook", "testWebhook")
                ),
            )
        },
        (400, 401, 403, *BODY, 422, 429, 500, 503),
        body="WebhookCreation",
        example=webhookshapes.EXAMPLE,
    ),
    Described(
        "listWebhooks",
        "GET",
        webhooks.PATH,
        "List webhooks",
        "The account's own, the oldest first.",
        "manage",
        {200: Success("All of them.", "WebhookList")},
        (*READ, 403),
    ),
    _of_webhook(
        "getWebhook",
        "GET",
        "",
        "Show a webhook",
        text="Where it stands.",
        answer="Webhook",
    ),
    _of_webhook(
        "changeWebhook",
        "PATCH",
        "",
        "Change a webhook",
        text="What is named is another from now on. One with another URL must answer a ping again;"
        " one that was paused or disabled is so again after it.",
        answer="WebhookChanged",
        body=("WebhookChange", webhookshapes.CHANGE_EXAMPLE),
    ),
    _of_webhook(
        "removeWebhook",
        "DELETE",
        "",
        "Remove a webhook",
        text="Forgets it, and what waits for it.",
        answer="WebhookRemoved",
    ),
    _of_webhook(
        "testWebhook",
        "POST",
        "/test",
        "Test a webhook",
        text="Pings it. One that is pending is active if it answers.",
        answer="WebhookTested",
    ),
    _of_webhook(
        "pauseWebhook",
        "POST",
        "/pause",
        "Pause a webhook",
        text="It is told nothing until it is resumed; what happens meanwhile waits in the event log.",
        answer="Webhook",
        conflicts=True,
    ),
    _of_webhook(
        "resumeWebhook",
        "POST",
        "/resume",
        "Resume a webhook",
        text="It goes on where it stopped, be it paused or disabled.",
        answer="Webhook",
        conflicts=True,
    ),
    _of_webhook(
        "replayWebhook",
        "POST",
        "/replay",
        "Replay events",
        text="It is told again, with the same event ids: everything from a place or a time on, or what was given up.",
        answer="WebhookReplayed",
        body=("WebhookReplay", webhookshapes.REPLAY_EXAMPLE),
    ),
    _of_webhook(
        "rotateWebhook",
        "POST",
        "/rotate",
        "Rotate a secret",
        text="Gives it another secret; for a while requests have a signature by each of the two.",
        answer="WebhookRotated",
        body=("WebhookRotation", webhookshapes.ROTATION_EXAMPLE),
    ),
    _of_webhook(
        "listWebhookAttempts",
        "GET",
        "/attempts",
        "List requests to a webhook",
        text="The last 100, tests among them.",
        answer="WebhookAttempts",
    ),
    _of_webhook(
        "listWebhookDead",
        "GET",
        "/dead",
        "List what was given up",
        text="The last 100 events that were given up after their last retry; replaying tries them again.",
        answer="WebhookDead",
    ),
)
