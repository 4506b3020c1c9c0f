"""The container: the Dockerfile's own instructions make an image that takes mail, as nobody in particular, on a root
that cannot be written; it says how it is, and ends when it is told to."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.docs import blocks
from tests.interop import dockerfile, ownroot
from tests.interop.container import Container
from tests.interop.dockerfile import Build, Stage
from tests.peers.client import http_send, message_bytes, message_json, smtp_send
from tests.peers.daemon import ROOT, SECRET
from tests.peers.process import free_port, listens, missing, require, wait_until

DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
GRACE_S: Final = 45


def test_the_file_is_what_it_should_be() -> None:
    """Pinned, without a shell before the daemon, not as root, and nothing that pip leaves behind."""
    instructions = dockerfile.parse(DOCKERFILE)
    names = [instruction.name for instruction in instructions]
    version = next(one.text for one in instructions if one.name == "ARG")
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-\w+", version)
    assert {one.text.split()[0] for one in instructions if one.name == "FROM"} == {"python:${PYTHON}"}
    assert names.count("FROM") == 2
    for one in instructions:
        if one.name in {"ENTRYPOINT", "CMD"}:
            assert one.text.startswith("["), one
        if "pip install" in one.text:
            assert "--no-cache-dir" in one.text
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "curl" not in DOCKERFILE


def test_only_what_is_needed_gets_into_an_image() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for path in ("pyproject.toml", "gateway/app/daemon.py", "gateway/store/sql/queue.sql", "etc/gateway.yaml"):
        assert not dockerfile.ignored(path, patterns), path
    for path in ("var/dev.key", ".git/config", "secrets/shop.key", "gateway.yaml", "gateway/__pycache__/a.pyc"):
        assert dockerfile.ignored(path, patterns), path


def test_compose_is_as_tight_as_the_image_allows() -> None:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    service = document["services"]["mail-gateway"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["stop_grace_period"] == f"{GRACE_S}s"
    assert service["restart"] == "unless-stopped"
    assert any(entry.startswith("/tmp") for entry in service["tmpfs"])
    (volume,) = document["volumes"]
    (kept,) = (one.text for one in dockerfile.parse(DOCKERFILE) if one.name == "VOLUME")
    assert f"{volume}:{kept}" in service["volumes"]
    assert set(service["secrets"]) == set(document["secrets"])
    (health,) = (one.text for one in dockerfile.parse(DOCKERFILE) if one.name == "HEALTHCHECK")
    asked = yaml.safe_load(health.partition("CMD")[2])
    assert asked == service["healthcheck"]["test"][1:]
    assert asked[-2:] == ["--data-dir", kept]
    assert f"--start-period={service['healthcheck']['start_period']} " in health
    (exposed,) = (one.text.split() for one in dockerfile.parse(DOCKERFILE) if one.name == "EXPOSE")
    assert {entry.rpartition(":")[2] for entry in service["ports"]} == set(exposed)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The image, made once."""
    if os.geteuid() != 0:
        missing("a root of its own needs root")
    work = tmp_path_factory.mktemp("image")
    probe = [require("unshare"), "--mount", "--pid", "--fork", "sh", "-c", f"mount -t tmpfs tmpfs {work}"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        missing("this machine lets nobody mount anything")
    for program in ("chroot", "setpriv", "nsenter"):
        require(program)
    for parent in (work, *work.parents):  # the container's user has to get there
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    return Build(ROOT, work, _wheels(work / "wheels-made")).run()


def _wheels(directory: Path) -> Path:
    """What the image installs, from where this machine has its packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel"]
    done = subprocess.run(
        [*pip, "--wheel-dir", str(directory), *wanted], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode != 0:
        missing(f"the packages cannot be had: {done.stderr[-500:]}")
    return directory


@pytest.fixture
def running(image: Stage, tmp_path: Path) -> Iterator[tuple[Container, int, int]]:
    """A container with (HTTP port, SMTP port)."""
    http, smtp = free_port(), free_port()
    secret = tmp_path / "shop.key"
    secret.write_text(SECRET)
    configuration = tmp_path / "gateway.yaml"
    configuration.write_text(
        yaml.safe_dump(
            {
                "hostname": "gateway.test",
                "http": {
                    "listeners": [{"listen": f"127.0.0.1:{http}", "tls": "none"}],
                    "admin": f"127.0.0.1:{free_port()}",
                },
                "smtp": {"listeners": [{"listen": f"127.0.0.1:{smtp}", "tls": "none", "auth": "required"}]},
                "routes": {"inbox": {"type": "capture"}},
                "default_route": "inbox",
                "keys": {"shop": {"secret": {"file": "/run/secrets/shop_key"}}},
            }
        )
    )
    for path in (secret, configuration):
        path.chmod(0o444)
    binds = {configuration: "/etc/mail-gateway/gateway.yaml", secret: "/run/secrets/shop_key"}
    made = Container(image, tmp_path, binds)
    made.start()
    yield made, http, smtp
    made.kill()


@pytest.mark.slow
def test_the_image_takes_mail_and_stops(running: tuple[Container, int, int], tmp_path: Path) -> None:
    container_, http, smtp = running
    wait_until(
        lambda: (listens(http) and listens(smtp)) or not container_.running,
        f"it listens: {container_.log.read_text()}",
        60,
    )
    assert container_.running, container_.log.read_text()
    ids = [
        http_send(http, message_json("one@example.net")).id,
        smtp_send(smtp, "shop@example.com", ["two@example.net"], message_bytes("two@example.net")),
    ]

    healthy = container_.execute(container_.stage.health)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    for id_ in ids:
        show = ["mail-gateway", "queue", "show", id_, "--json"]
        wait_until(lambda show=show: '"captured"' in container_.execute(show).stdout, f"{id_} is captured", 60)  # type: ignore[misc]  # a default is no parameter
    status = Path(f"/proc/{container_.pid}/status").read_text()
    uid, _ = ownroot.ids(container_.stage.root, "mail-gateway")
    assert uid != 0
    assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", status, flags=re.MULTILINE)
    assert re.search(r"^NSpid:\t\d+\t1$", status, flags=re.MULTILINE)  # no shell or init before it
    assert re.search(r"^Cap(Eff|Prm|Bnd):\t0{16}$", status, flags=re.MULTILINE)
    attempt = "touch /opt/mail-gateway/x /etc/x /var/lib/mail-gateway/x; ls /var/lib/mail-gateway"
    written = container_.execute(["/bin/sh", "-c", attempt])
    assert written.stderr.count("Read-only file system") == 2, written.stderr
    assert {"x", "gateway.db", "master.key"} <= set(written.stdout.split())

    assert container_.stop() == 0, container_.log.read_text()
    assert "Traceback" not in container_.log.read_text()
    assert (tmp_path / "volume0" / "gateway.db").exists()


@pytest.mark.slow
def test_the_steps_of_the_readme(image: Stage) -> None:
    """Those after `pip install`, which the Dockerfile has too: what they make can be read by the daemon's user only."""
    for program in ("systemd-sysusers", "systemd-tmpfiles"):
        require(program)
    root = image.root.parent / "build"
    for name in ("etc", "systemd"):
        shutil.copytree(ROOT / name, root / "src" / name)
    (root / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
    (steps,) = [block.text for block in blocks.of(ROOT / "README.md") if "systemd-sysusers" in block.text]
    lines = [line for line in steps.splitlines() if not line.startswith(("apt ", "python3 -m venv", "/opt/"))]
    script = [
        "set -e",
        "cd /src",
        *lines,
        "setpriv --reuid=mail-gateway --regid=mail-gateway --clear-groups mail-gateway check",
        "setpriv --reuid=65534 --regid=65534 --clear-groups mail-gateway check && exit 1 || test $? = 78",
    ]
    done = subprocess.run(
        ownroot.inside(root, ["/bin/sh", "-c", "\n".join(script)]),
        env={"PATH": image.environment["PATH"].removeprefix("/opt/mail-gateway/bin:"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no problem found" in done.stdout
    made = (root / "etc/mail-gateway/gateway.yaml").stat()
    assert made.st_gid == ownroot.ids(root, "mail-gateway")[1] != 0
    assert made.st_mode & 0o777 == 0o640


@pytest.mark.slow
def test_the_image_says_what_it_is(image: Stage) -> None:
    assert image.labels["org.opencontainers.image.licenses"] == "MIT"
    assert image.ports == ["2525", "8025"]
    assert image.user == "mail-gateway"
    assert image.stop_signal == "SIGTERM"
    done = subprocess.run(
        ownroot.inside(image.root, ["mail-gateway", "--version"], user=image.user, sealed=True),
        env=image.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("mail-gateway "), done.stderr
    assert not (image.root / "root/.cache").exists()
    assert list((image.root / "tmp").iterdir()) == []
