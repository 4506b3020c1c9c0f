"""What a reload changes: every value is decided, and what needs a restart stays as it was."""

import asyncio
import dataclasses
import ipaddress
import re
import socket
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any

import pytest

from gateway import config as tree
from gateway import configfile, reload
from gateway.config import Config, HttpListener, KeyConfig, Limits, Listen, MxRoute, RelayRoute, Secret, SmtpListener
from gateway.errors import ConfigError, Problem
from gateway.keyterms import Brakes, KeyRetention, Limit, Mode, ModeKind
from gateway.reload import Change, Commit, How, NothingToRead, Outcome, Reloader
from gateway.runtime import Clock

ATOMS = (Listen, Secret, tree.DkimKey, Limit, Mode)  # looked at as one value


def _classes(type_: Any) -> set[type]:
    """The dataclasses that a type is made of, themselves and what is in their fields."""
    if isinstance(type_, UnionType) or typing.get_origin(type_) is not None:
        return set().union(*(_classes(part) for part in typing.get_args(type_)))
    if not dataclasses.is_dataclass(type_) or type_ in ATOMS:
        return set()
    found = {typing.cast("type", type_)}
    for hint in typing.get_type_hints(type_).values():
        found |= _classes(hint)
    return found


def test_every_value_is_decided() -> None:
    classes = _classes(Config)
    assert {Config, tree.SmtpListener, tree.RelayRoute, tree.KeyConfig} < classes
    assert classes == reload.DECISIONS.keys()
    for class_ in classes:
        assert {field.name for field in dataclasses.fields(class_)} == reload.DECISIONS[class_].keys(), class_


def test_only_what_has_fields_is_looked_into() -> None:
    for class_, decisions in reload.DECISIONS.items():
        hints = typing.get_type_hints(class_)
        for name, decision in decisions.items():
            if decision.how in {How.INSIDE, How.PLACES, How.BY_NAME}:
                assert _classes(hints[name]), (class_, name)


def _change(old: Config, **new: Any) -> Change:
    return reload.compare(old, dataclasses.replace(old, **new))


BASE = Config(hostname="a.test", data_dir=Path("/d"), routes={"ses": RelayRoute("ses", "one.test", 587)})


def test_nothing_changed() -> None:
    assert reload.compare(BASE, dataclasses.replace(BASE)) == Change(BASE, (), ())


def test_values_are_named_as_the_file_has_them() -> None:
    change = _change(
        BASE,
        hostname="b.test",
        limits=Limits(connections=7, backlog_bytes=9),
        routes={"ses": RelayRoute("ses", "two.test", 587), "direct": MxRoute("direct")},
        delivery=dataclasses.replace(BASE.delivery, retry_s=(1.0,), timeouts=tree.Timeouts(connect_s=1)),
        retention=tree.Retention(content_failed_s=1),
        dialects=tree.Dialects(sendmux_success_status=200),
    )
    assert change.applied == (
        "hostname",
        "limits.connections",
        "limits.backlog.bytes",
        "routes.ses.host",
        "routes.direct",
        "delivery.retry",
        "delivery.timeouts.connect",
        "retention.content.failed",
        "dialects.sendmux.success_status",
    )
    assert change.restart == ()
    assert change.config.routes["ses"] == RelayRoute("ses", "two.test", 587)


def test_a_secret_is_named_and_not_shown() -> None:
    key = KeyConfig(name="shop", secret=Secret("one-secret-of-some-length"), account="shop")
    changed = dataclasses.replace(key, secret=Secret("another-secret-of-some-length"), senders=("*@x.test",))
    change = _change(dataclasses.replace(BASE, keys={"shop": key}), keys={"shop": changed})
    assert change.applied == ("keys.shop.secret", "keys.shop.from")
    assert "another" not in repr(change)
    assert change.config.keys["shop"] == changed


def test_a_route_of_another_kind_is_another_route() -> None:
    change = _change(BASE, routes={"ses": MxRoute("ses")})
    assert change.applied == ("routes.ses",)
    assert change.config.routes == {"ses": MxRoute("ses")}
    assert _change(BASE, routes={}).applied == ("routes.ses",)


def test_what_needs_a_restart_goes_on_as_it_was() -> None:
    change = _change(BASE, data_dir=Path("/e"), database=Path("other.db"), local_socket=Path("/s"), hostname="b.test")
    assert change.restart == ("data_dir", "store.url", "local.socket")
    assert change.config == dataclasses.replace(BASE, hostname="b.test")
    again = reload.compare(change.config, dataclasses.replace(change.config, data_dir=Path("/e")))
    assert again.restart == ("data_dir",), "it is named until the restart"


def test_listeners_are_known_by_their_address() -> None:
    network = ipaddress.ip_network("10.0.0.0/8")
    one, two, three = (SmtpListener(Listen("127.0.0.1", port)) for port in (1, 2, 3))
    old = dataclasses.replace(BASE, smtp=tree.Smtp((one, two)))
    changed = dataclasses.replace(two, networks=((network, "printers"),), min_tls="1.3")
    change = _change(old, smtp=tree.Smtp((changed, one)))
    assert change.applied == ("smtp.listeners[0].min_tls", "smtp.listeners[0].networks")
    assert change.restart == ()
    assert change.config.smtp.listeners == (one, changed)

    change = _change(old, smtp=tree.Smtp((one, three)))
    assert (change.applied, change.restart) == ((), ("smtp.listeners",))
    assert change.config.smtp.listeners == (one, two)

    implicit = dataclasses.replace(two, tls=tree.ListenerTls.IMPLICIT, auth=tree.Auth.OPTIONAL)
    change = _change(old, smtp=tree.Smtp((one, implicit)))
    assert (change.applied, change.restart) == ((), ("smtp.listeners[1].tls", "smtp.listeners[1].auth"))
    assert change.config.smtp.listeners == (one, two)


def test_a_listener_with_other_tls_goes_on_wholly_as_it_was() -> None:
    """With half of the change nobody could authenticate there: neither in clear nor over TLS."""
    clear = SmtpListener(Listen("127.0.0.1", 1), plaintext_auth=True)
    old = dataclasses.replace(BASE, smtp=tree.Smtp((clear,)))
    change = _change(old, smtp=tree.Smtp((SmtpListener(clear.listen, tls=tree.ListenerTls.STARTTLS),)))
    assert (change.applied, change.restart) == ((), ("smtp.listeners[0].tls", "smtp.listeners[0].plaintext_auth"))
    assert change.config == old

    open_ = HttpListener(Listen("0.0.0.0", 1), insecure=True)
    old = dataclasses.replace(BASE, http=tree.Http((open_,)))
    change = _change(old, http=tree.Http((HttpListener(open_.listen, tls=tree.ListenerTls.IMPLICIT),)))
    assert (change.applied, change.restart) == ((), ("http.listeners[0].tls", "http.listeners[0].insecure"))
    assert change.config == old


def test_a_listener_with_another_role_goes_on_wholly_as_it_was() -> None:
    """Half of the change could take mail from anybody to anybody."""
    submission = SmtpListener(Listen("127.0.0.1", 1), auth=tree.Auth.REQUIRED)
    old = dataclasses.replace(BASE, smtp=tree.Smtp((submission,)))
    heard = SmtpListener(submission.listen, auth=tree.Auth.NONE, role=tree.Role.RETURN_PATH)
    change = _change(old, smtp=tree.Smtp((heard,), feedback=("fbl@b.test",)))
    assert change.restart == ("smtp.listeners[0].auth", "smtp.listeners[0].role")
    assert change.applied == ("smtp.feedback",)
    assert change.config.smtp == tree.Smtp((submission,), feedback=("fbl@b.test",))


def test_what_becomes_of_mail_is_applied() -> None:
    key = KeyConfig(name="shop", secret=Secret("one-secret-of-some-length"), account="shop")
    changed = dataclasses.replace(
        key,
        mode=Mode(ModeKind.HOLD),
        track=1,
        brakes=Brakes(bounces=0.1),
        retention=KeyRetention(content_failed_s=1, events_s=2),
    )
    change = _change(
        dataclasses.replace(BASE, keys={"shop": key}),
        keys={"shop": changed},
        http=dataclasses.replace(BASE.http, public_url="https://a.test"),
        suppression=tree.Suppression(bounce_s=None),
        webhooks=tree.Webhooks(timeout_s=1),
        simulator="play.test",
        log=tree.Log(addresses="hashed"),
    )
    assert change.restart == ()
    assert change.applied == (
        "http.public_url",
        "keys.shop.mode",
        "keys.shop.track",
        "keys.shop.brakes.bounces",
        "keys.shop.retention.content.failed",
        "keys.shop.retention.events",
        "suppression.bounce",
        "webhooks.timeout",
        "simulator",
        "log.addresses",
    )


def test_http_listeners_and_the_admin_address() -> None:
    http = tree.Http((HttpListener(Listen("127.0.0.1", 1)),), admin=None)
    change = _change(BASE, http=http)
    assert change.restart == ("http.listeners", "http.admin")
    assert change.config.http == BASE.http


def test_a_certificate_is_applied_where_there_is_one_already() -> None:
    tls = tree.Tls(Path("/a.pem"), Path("/a.key"))
    assert _change(BASE, tls=tls).restart == ("tls",)
    change = _change(dataclasses.replace(BASE, tls=tls), tls=tree.Tls(Path("/b.pem"), Path("/a.key")))
    assert change.applied == ("tls.certificate",)
    assert _change(dataclasses.replace(BASE, tls=tls), tls=None).restart == ("tls",)


def test_the_local_key_is_applied_while_there_is_one() -> None:
    assert _change(BASE, local_key="a").restart == ("local.key",)
    assert _change(dataclasses.replace(BASE, local_key="a"), local_key="b").applied == ("local.key",)


class Parts:
    """Two that are prepared and one that follows; `says` is what they did, in order."""

    def __init__(self, *, fault: ConfigError | None = None, broken: bool = False) -> None:
        self.says: list[str] = []
        self.fatal: list[str] = []
        self._fault = fault
        self._broken = broken

    def reloader(self, config: Config) -> Reloader:
        return Reloader(
            config,
            prepare=[self.first, self.second],
            follow=[self.follows],
            clock=Clock(),
            on_broken=self.fatal.append,
        )

    async def first(self, _config: Config) -> Commit:
        self.says.append("prepared")
        return lambda: self.says.append("committed")

    async def second(self, _config: Config) -> Callable[[], None]:
        if self._fault is not None:
            raise self._fault
        return await self.first(_config)

    def follows(self, config: Config) -> None:
        if self._broken:
            raise RuntimeError("a bug")
        self.says.append(config.hostname)


@pytest.fixture
def running(tmp_path: Path) -> Config:
    """As it was read from its file."""
    path = tmp_path / "gateway.yaml"
    path.write_text(f"hostname: a.test\ndata_dir: {tmp_path}\n")
    return configfile.load(path)


def _write(running: Config, text: str) -> None:
    assert running.path is not None
    running.path.write_text(f"data_dir: {running.data_dir}\n{text}")


async def test_everything_is_prepared_before_anything_is_changed(running: Config) -> None:
    parts = Parts()
    reloader = parts.reloader(running)
    _write(running, "hostname: b.test")
    outcome = await reloader.reload()
    assert outcome.applied == ("hostname",)
    assert parts.says == ["prepared", "prepared", "committed", "committed", "b.test"]
    assert reloader.config.hostname == "b.test"
    assert reloader.last is outcome


async def test_one_that_refuses_leaves_everything_as_it_was(running: Config, caplog: pytest.LogCaptureFixture) -> None:
    parts = Parts(fault=ConfigError([Problem("tls.certificate", "does not fit")]))
    reloader = parts.reloader(running)
    _write(running, "hostname: b.test")
    with pytest.raises(ConfigError):
        await reloader.reload()
    assert parts.says == ["prepared"]
    assert reloader.config is running
    assert reloader.last is not None
    assert reloader.last.problems == ("tls.certificate: does not fit",)
    assert "nothing was changed" in caplog.text


async def test_a_bad_file_changes_nothing_and_names_every_line(
    running: Config, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts()
    reloader = parts.reloader(running)
    _write(running, "hostname: b.test\nlimits:\n  connections: 0\nno_such_key: 1\n")
    with pytest.raises(ConfigError) as raised:
        await reloader.reload()
    assert [problem.line for problem in raised.value.problems] == [4, 5]
    assert parts.says == []
    assert "line 4: limits.connections" in caplog.text
    assert "line 5: no_such_key" in caplog.text


async def test_a_fault_of_ours_changes_nothing_and_ends_nothing(
    running: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Config:
        raise ValueError("a bug")

    parts = Parts()
    reloader = parts.reloader(running)
    monkeypatch.setattr(configfile, "load", fails)
    with pytest.raises(ConfigError, match="ValueError"):
        await reloader.reload()
    assert reloader.last is not None
    assert reloader.last.problems == ("the gateway failed over it (ValueError); its log says where",)
    assert "a bug" in caplog.text, "with its traceback"
    assert "nothing was changed" in caplog.text

    monkeypatch.undo()
    _write(running, "hostname: b.test")
    monkeypatch.setattr(parts, "second", fails)
    with pytest.raises(ConfigError, match="ValueError"):
        await parts.reloader(running).reload()
    assert parts.says == ["prepared"]


async def test_a_name_that_the_file_does_not_give_stays(running: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS knows the machine's own, and may be away."""
    _write(running, "")
    monkeypatch.setattr(socket, "getfqdn", lambda: "localhost")
    parts = Parts()
    reloader = parts.reloader(running)
    outcome = await reloader.reload()
    assert (outcome.applied, outcome.restart) == ((), ())
    assert reloader.config.hostname == "a.test"


async def test_the_file_is_read_once_with_its_warnings(running: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    text = configfile._text

    def count(*given: Any) -> str | None:
        nonlocal read
        read += 1
        return text(*given)

    monkeypatch.setattr(configfile, "_text", count)
    _write(running, 'routes: {direct: {type: mx, min_tls: "1.0"}}')
    outcome = await Parts().reloader(running).reload()
    assert ["line 2" in warning and "TLS 1.0" in warning for warning in outcome.warnings] == [True]
    assert read == 1


async def test_half_of_a_configuration_is_none(running: Config) -> None:
    parts = Parts(broken=True)
    reloader = parts.reloader(running)
    with pytest.raises(RuntimeError):
        await reloader.reload()
    assert "in part only" in parts.fatal[0]


async def test_without_a_file_there_is_nothing_to_read() -> None:
    reloader = Parts().reloader(BASE)
    with pytest.raises(NothingToRead):
        await reloader.reload()


async def test_reloads_come_one_after_the_other(running: Config) -> None:
    parts = Parts()
    reloader = parts.reloader(running)
    outcomes = await asyncio.gather(*[reloader.reload() for _ in range(3)])
    assert [type(outcome) for outcome in outcomes] == [Outcome] * 3
    assert parts.says == ["prepared", "prepared", "committed", "committed", "a.test"] * 3


def test_the_documentation_names_what_needs_a_restart() -> None:
    """And nothing else."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "lifecycle.md").read_text()
    listed = text.partition("<!-- restart -->")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([\w.]+)`", listed)) - {"tls"}
    assert named == {f"{path}" for path in _restarts(Config, "")} - {"path", "tls"}
    assert "`tls` of one that stays" in listed
    assert "`tls` and `local.key`" in listed


def _restarts(class_: type, path: str) -> Iterator[str]:
    """The paths of what cannot be applied always; what is in a listener is the listeners'."""
    hints = typing.get_type_hints(class_)
    for name, decision in reload.DECISIONS[class_].items():
        place = f"{path}.{decision.path}" if path else decision.path
        if decision.how in {How.RESTART, How.WHILE_THERE, How.PLACES}:
            yield place
        elif decision.how is How.INSIDE:
            yield from _restarts(hints[name], place)
