"""The daemon against its own OpenAPI document: what Schemathesis makes of it, as one account and then as another.

Bounded: about two thousand requests with a fixed seed, well under four minutes.
"""

import base64
import html
import http.client
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.peers.daemon import SECRET, Daemon
from tests.peers.process import require

pytestmark = pytest.mark.slow

OTHER: Final = "another-key-of-thirty-characters"
DOCUMENT: Final = "/api/v1/openapi.json"
SEND: Final = "/api/v1/emails/send"
SEED: Final = "21"
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "use_after_free",
    "ensure_resource_availability",
)
# Everything here is captured at once: no message waits, or is held (tests/scenarios/test_events.py has some).
OF_A_STATE: Final = {"cancelEmail", "retryEmail", "releaseEmail", "rescheduleEmail"}
OF_NOBODY: Final = r"/(emails/eml_|suppressions/|webhooks/whk_)"  # in an example: what the reader has to put there
LEAST: Final = 1000  # requests: fewer, and something kept them from being made


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that was made and the body of its answer, decoded where it is JSON."""

    method: str
    path: str
    status: int
    body: Any


def settings(directory: Path) -> dict[str, Any]:
    """Everything is captured; two accounts, each with a key that may do all that the API offers."""
    keys = {}
    for account, text in (("a", SECRET), ("b", OTHER)):
        file = directory / account
        file.write_text(text)
        file.chmod(0o600)
        keys[account] = {
            "secret": {"file": str(file)},
            "account": account,
            "scopes": ["send", "read", "manage"],
            "default_from": f"{account}@example.com",
        }
    return {"routes": {"inbox": {"type": "capture"}}, "default_route": "inbox", "keys": keys}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("schemathesis")
    with Daemon(directory / "gw", settings(directory)) as running:
        yield running


@pytest.fixture(scope="module")
def exchanges(daemon: Daemon) -> list[Exchange]:
    """All phases over every operation, then more of what is right for the ones that take mail."""
    everything = schemathesis(daemon, "all", "--max-examples", "20")
    mail = ("--include-operation-id", "sendEmail", "--include-operation-id", "sendBatch")
    return everything + schemathesis(
        daemon, "mail", *mail, "--phases", "fuzzing", "--mode", "positive", "--max-examples", "150"
    )


def schemathesis(daemon: Daemon, name: str, *options: str) -> list[Exchange]:
    """Run it as the account `a`; fails with what it prints where it finds anything."""
    report = daemon.directory / f"{name}.ndjson"
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run"),
            f"http://127.0.0.1:{daemon.http_port}{DOCUMENT}",
            *("--header", f"Authorization: Bearer {SECRET}", "--checks", ",".join(CHECKS)),
            *("--seed", SEED, "--generation-database", "none", "--no-color", "--continue-on-failure"),
            *("--report", "ndjson", "--report-ndjson-path", str(report)),
            *options,
        ],
        cwd=daemon.directory,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-2000:]}\n{daemon.tail()}"
    return list(read(report))


def read(report: Path) -> Iterator[Exchange]:
    with report.open() as lines:
        for line in lines:
            finished = json.loads(line).get("ScenarioFinished")
            for one in finished["recorder"].get("interactions", {}).values() if finished else ():
                if one.get("response"):
                    yield exchange(one["request"], one["response"])


def exchange(request: dict[str, Any], response: dict[str, Any]) -> Exchange:
    path = "/" + request["uri"].split("/", 3)[3].partition("?")[0]
    content = response.get("content")
    try:
        body = json.loads(base64.b64decode(content["$base64"])) if content else None
    except ValueError:
        body = None
    return Exchange(request["method"], path, response["status_code"], body)


def described(daemon: Daemon) -> dict[str, Any]:
    status, body = ask(daemon, "GET", DOCUMENT, "")
    assert status == 200
    paths: dict[str, Any] = json.loads(body)["paths"]
    return paths


def ask(daemon: Daemon, method: str, path: str, secret: str, body: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=30)
    try:
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        connection.request(method, path, body=json.dumps(body) if body is not None else None, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_no_server_error_and_nothing_undocumented(daemon: Daemon, exchanges: list[Exchange]) -> None:
    assert len(exchanges) >= LEAST
    import collections

    print(len(exchanges))
    [
        print(n, x)
        for x, n in sorted(
            collections.Counter(
                (
                    e.method,
                    e.path.rsplit("/", 1)[0]
                    if "{" not in e.path and ("templates/" in e.path or "eml_" in e.path)
                    else e.path,
                    e.status,
                )
                for e in exchanges
                if e.status != 405
            ).items()
        )
        if n > 1
    ]
    assert {one.status for one in exchanges if one.status >= 500} == set()
    log = daemon.log.read_text(errors="replace")
    assert "Traceback" not in log
    assert SECRET not in log


def test_every_operation_was_reached(daemon: Daemon, exchanges: list[Exchange]) -> None:
    reached = {(one.method, one.path) for one in exchanges if 200 <= one.status < 300}
    sent = next(one.body["data"]["message_id"] for one in exchanges if one.status == 201 and one.path == SEND)
    for path, methods in described(daemon).items():
        for method, operation in methods.items():
            form = re.compile(re.escape(path).replace(r"\{id\}", "[^/]+"))
            done = any(one == method.upper() and form.fullmatch(place) for one, place in reached)
            if operation["operationId"] in OF_A_STATE or re.match(r"/api/v1/(suppressions|webhooks)/\{id\}", path):
                continue
            if method == "get" and path.startswith("/api/v1/emails/{id}"):  # whose id it rarely has
                done = ask(daemon, "GET", path.replace("{id}", sent), SECRET)[0] == 200
            assert done or path == DOCUMENT, f"{method} {path} never succeeded"  # the document itself is its input


def test_another_account_finds_nothing(daemon: Daemon, exchanges: list[Exchange]) -> None:
    told = json.dumps([one.body for one in exchanges if 200 <= one.status < 300])
    messages = sorted(set(re.findall(r'"message_id": "(eml_[a-z0-9]{24})"', told)))[:100]
    (_, listed) = ask(daemon, "GET", "/api/v1/templates", SECRET)
    templates = [name for one in json.loads(listed)["data"]["templates"] for name in (one["id"], one["alias"]) if name]
    status, _ = ask(daemon, "GET", f"/api/v1/emails/{messages[0]}", SECRET)
    assert status == 200
    assert len(messages) > 20
    assert templates
    asked: Counter[str] = Counter()
    for path, methods in described(daemon).items():
        noun = path.removeprefix("/api/v1/").partition("/")[0]
        theirs = {"emails": messages, "templates": templates}.get(noun, [])
        for method, operation in methods.items() if "{id}" in path else ():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for one in theirs:
                status, _ = ask(daemon, method.upper(), path.replace("{id}", one), OTHER, content.get("example"))
                assert status == 404, f"{method} {path} with {one}"
                asked[noun] += 1
    assert asked == {"emails": 7 * len(messages), "templates": 3 * len(templates)}
    for place in ("events", "emails"):
        (_, theirs_now) = ask(daemon, "GET", f"/api/v1/{place}?limit=100", OTHER)
        assert json.loads(theirs_now)["data"] == []
    for secret, expected in ((OTHER, {"templates": []}), (SECRET, json.loads(listed)["data"])):
        (_, now) = ask(daemon, "GET", "/api/v1/templates", secret)
        assert json.loads(now)["data"] == expected


def test_the_commands_of_the_docs_page(daemon: Daemon) -> None:
    """In the order of the page, by a shell, as a reader would paste them."""
    require("curl")
    page = ask(daemon, "GET", "/api/v1/docs", "")[1].decode()
    examples = [one for one in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL) if one.startswith("curl")]
    assert len(examples) == sum(len(methods) for methods in described(daemon).values())
    for example in examples:
        command = html.unescape(example)
        done = subprocess.run(
            ["sh", "-c", command.replace("curl", "curl -sS -o /dev/null -w '%{http_code}'", 1)],
            env={"GATEWAY": f"http://127.0.0.1:{daemon.http_port}", "KEY": OTHER, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        expected = ("404",) if re.search(OF_NOBODY, command) else ("200", "201")
        assert done.stdout in expected, command
