"""Which dialect serves a path, and in whose shape its errors are told."""

from dataclasses import replace

import pytest

from gateway.api import foreign, native
from gateway.api.dialect import Operation
from gateway.api.envelope import Answer
from gateway.api.routing import Routes
from gateway.config import Config, Dialects
from gateway.configfile import grammar
from tests.api.conftest import Api, Start


def routes() -> Routes:
    return Routes.of(native.DIALECT, foreign.DIALECTS)


@pytest.mark.parametrize(
    ("path", "name", "argument"),
    [
        ("/", "overton", ""),
        ("/send-email", "guide", ""),
        ("/v1/send", "cloudmails", ""),
        ("/cloudmails/v1/send", "cloudmails", ""),
        ("/v1/emails/msg_1", "cloudmails", "msg_1"),
        ("/api/smtp", "iassmtp", ""),
        ("/api/v1/emails/send", "native", ""),
        ("/api/v1/emails/eml_1", "native", "eml_1"),
        ("/api/v1/emails/eml_1/events", "native", "eml_1"),
        ("/api/v1/emails/send/cancel", "native", "send"),
        ("/api/v1/emails", "native", ""),
        ("/sendmux/api/v1/emails/send", "sendmux", ""),
    ],
)
def test_who_serves_a_path(path: str, name: str, argument: str) -> None:
    place = routes().find(path)
    assert place is not None
    assert (place.dialect.name, place.argument) == (name, argument)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/v1/emails/",
        "/v1/emails/a/b",
        "/nothing",
        "/v1",
        "//",
        "/api/v1/emails/",
        "/api/v1/emails/a/b",
        "/api/v1/emails//events",
        "/api/v1/emails/a/events/b",
    ],
)
def test_paths_that_nobody_serves(path: str) -> None:
    assert routes().find(path) is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/nothing", "cloudmails"),
        ("/api/v1/nothing", "native"),
        ("/overton/nothing", "overton"),
        ("/guide/nothing", "guide"),
        ("/iassmtp/nothing", "iassmtp"),
        ("/sendmux/nothing", "sendmux"),
        ("/nothing", "native"),
    ],
)
def test_whose_shape_an_error_has(path: str, name: str) -> None:
    assert routes().owner(path).name == name


def test_dialects_cannot_collide() -> None:
    async def serve(*_: object) -> Answer:
        return Answer(200, b"")

    other = replace(native.DIALECT, name="other", operations=(Operation("POST", "/v1/send", serve),))
    with pytest.raises(ValueError, match="POST /v1/send is served by cloudmails and by other"):
        Routes.of(native.DIALECT, (*foreign.DIALECTS, other))


async def test_a_dialect_that_is_switched_off(start: Start, config: Config) -> None:
    api: Api = await start(replace(config, dialects=Dialects(disabled=frozenset({"guide"}))))
    assert (await api.call("POST", "/send-email", b"{}")).status == 404
    assert (await api.call("GET", "/v1/send")).status == 405


def test_every_dialect_can_be_switched_off_by_its_name() -> None:
    assert {dialect.name for dialect in foreign.DIALECTS} == set(grammar.DIALECTS)
