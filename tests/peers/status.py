"""What the daemon says of a message."""

import http.client
import json
from typing import Any

from tests.peers.client import Answer
from tests.peers.daemon import SECRET, Daemon
from tests.peers.process import wait_until


def status(daemon: Daemon, id_: str, *, secret: str = SECRET) -> Answer:
    """GET /api/v1/emails/{id}."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=30)
    try:
        connection.request("GET", f"/api/v1/emails/{id_}", headers={"Authorization": f"Bearer {secret}"})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), json.loads(response.read()))
    finally:
        connection.close()


def wait_for_state(daemon: Daemon, id_: str, state: str, timeout_s: float = 60.0) -> dict[str, Any]:
    """Wait until the first recipient is in a state; returns the recipient."""
    found: dict[str, Any] = {}

    def reached() -> bool:
        found.update(status(daemon, id_).body["data"]["recipients"][0])
        return bool(found["state"] == state)

    try:
        wait_until(reached, state, timeout_s)
    except TimeoutError as error:
        raise TimeoutError(f"{id_} is not {state} but {found}\n{daemon.tail()}") from error
    return found
