"""What the how-tos say to put somewhere, tried there: lines for cron, links, hooks, secrets, patterns of senders."""

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
import yaml

from gateway import configfile
from gateway.message import address
from tests.conftest import MakeDaemon
from tests.docs import blocks
from tests.docs.blocks import ROOT, Block
from tests.docs.world import World
from tests.peers.process import free_port, require

HOWTO: Final = ROOT / "docs" / "howto"
CRON_PATH: Final = "/usr/bin:/bin"  # crontab(5)


def _block(path: Path, text: str) -> Block:
    (found,) = [block for block in blocks.of(path) if text in block.text]
    return found


def _shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", "-e", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done


def test_the_lines_that_the_readme_changes_are_in_the_file_that_ships(tmp_path: Path) -> None:
    readme, shipped = (ROOT / "README.md").read_text(), (ROOT / "etc/gateway.yaml").read_text()
    name = _block(ROOT / "README.md", "hostname: ").text.strip()
    assert all(said in readme for said in ("`#hostname`", "`#relay`", "`default_route: direct`"))
    for old, new in (
        (rf"^#{name}$", name),
        (r"^( +)#relay: ", r"\1relay: "),
        (r"^default_route: direct$", "default_route: relay"),
        (r"/(etc|var/lib)/mail-gateway", str(tmp_path)),
    ):
        shipped, count = re.subn(old, new, shipped, flags=re.MULTILINE)
        assert count, old
    for file, text in (("relay.key", "p\n"), ("gateway.yaml", shipped)):
        (tmp_path / file).touch(mode=0o600)
        (tmp_path / file).write_text(text)
    loaded, problems, _ = configfile.read_config(tmp_path / "gateway.yaml", {})
    assert [str(problem) for problem in problems] == []
    assert loaded.default_route == "relay"


def _patterns() -> dict[str, list[str]]:
    """Of the keys that stand for all that a machine sends."""
    (created,) = re.findall(r"^mail-gateway key create postfix .*$", (HOWTO / "postfix.md").read_text(), re.MULTILINE)
    found = {"key create": re.findall(r"--from '([^']+)'", created)}
    for path in (HOWTO / "postfix.md", HOWTO / "msmtp.md", ROOT / "docs/legacy.md"):
        text = _block(path, "local: {key: system}").text
        found[path.name] = yaml.safe_load(text)["keys"]["system"]["from"]
    return found


@pytest.mark.parametrize(("where", "patterns"), _patterns().items())
def test_a_machine_may_send_its_own_mail(where: str, patterns: list[str]) -> None:
    """Debian's Postfix and mailx add the machine's full name; that mail bounced for good."""
    for sender in ("root@example.com", "root@host.example.com"):
        assert any(address.matches(pattern, sender) for pattern in patterns), where


def test_secrets_have_one_place_and_are_made_there() -> None:
    """An absolute path in /etc/mail-gateway; each how-to that names one makes it, and starts the daemon anew."""
    for path in (*sorted(HOWTO.glob("*.md")), ROOT / "docs/legacy.md", ROOT / "etc/gateway.yaml", ROOT / "README.md"):
        text = path.read_text()
        named = re.findall(r"\{file: ([^}]+)\}", text)
        assert all(re.match(r"/etc/mail-gateway/\w+\.key$|/run/secrets/|PATH$", name) for name in named), (path, named)
    for name, file in (("msmtp", "system"), ("msmtp", "relay"), ("devices", "printers")):
        made = _block(HOWTO / f"{name}.md", f"/dev/null /etc/mail-gateway/{file}.key")
        assert made.mark == "run"
        assert made.text.endswith("mail-gateway check && systemctl restart mail-gateway\n")


def test_the_first_configuration_of_a_container_finds_what_compose_gives_it() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    first, with_tls = (block.text for block in blocks.of(HOWTO / "container.md") if block.mark == "config")
    assert set(re.findall(r"/run/secrets/([\w.]+)", first)) == set(compose["secrets"])
    ports = compose["services"]["mail-gateway"]["ports"]
    assert all(port.startswith("127.0.0.1:") for port in ports)  # what is in clear is for this machine alone
    text = re.sub(r"^( *)#(?! )", r"\1", (ROOT / "compose.yaml").read_text(), flags=re.MULTILINE)
    tight = yaml.safe_load(text)
    named = set(re.findall(r"/run/secrets/([\w.]+)", with_tls))
    assert named <= set(tight["secrets"])
    assert named <= set(tight["services"]["mail-gateway"]["secrets"])
    assert "587:2525" in tight["services"]["mail-gateway"]["ports"]


def test_the_link_keeps_what_a_package_has_there(tmp_path: Path) -> None:
    """dpkg's own diversion, in a directory that stands for a machine."""
    program = require("dpkg-divert")
    for name in ("usr/sbin", "usr/bin", "usr/local/bin", "var/lib/dpkg/info", "var/lib/dpkg/updates"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("status", "diversions"):
        (tmp_path / "var/lib/dpkg" / name).touch()
    theirs = tmp_path / "usr/sbin/sendmail"
    theirs.write_text("Postfix's\n")
    script = _block(HOWTO / "msmtp.md", "dpkg-divert").text
    script = script.replace("dpkg-divert ", f"{program} --root {tmp_path} ")
    script = re.sub(r"ln -s \S+ \$name", rf"ln -s /usr/local/bin/mail-gateway {tmp_path}$name", script)
    _shell(script, PATH=os.environ["PATH"])
    assert theirs.with_name("sendmail.distrib").read_text() == "Postfix's\n"
    for name in ("usr/sbin/sendmail", "usr/bin/mailq", "usr/bin/newaliases"):
        assert (tmp_path / name).readlink() == Path("/usr/local/bin/mail-gateway")


@pytest.mark.slow
def test_cron_makes_the_nightly_backup(tmp_path: Path) -> None:
    """With the PATH that cron gives, which has no /usr/local/bin."""
    (line,) = [line for line in _block(HOWTO / "backup.md", "15 3 * * *").text.splitlines() if line]
    command = line.split(maxsplit=6)[6].replace(r"\%", "%")
    with World(tmp_path) as world:
        _shell(world.translated(command), PATH=CRON_PATH, MAIL_GATEWAY_CONFIG=str(world.daemon.config))
        (made,) = tmp_path.glob("mail-gateway-*.backup")
        assert re.fullmatch(r"mail-gateway-[1-7]\.backup", made.name)
        assert stat.S_IMODE(made.stat().st_mode) == 0o600
        assert json.loads(world.daemon.cli("restore", "--check", "--json", str(made)))


@pytest.mark.slow
def test_a_listener_with_tls(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """The hook brings a certificate, the listeners are the document's, and its two commands say that all is well."""
    require("openssl")
    path = HOWTO / "tls-listener.md"
    authority, lineage = trustme.CA(), tmp_path / "live"
    issued = authority.issue_cert("mail.example.com")
    lineage.mkdir()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    issued.private_key_pem.write_to_path(lineage / "privkey.pem")
    (lineage / "fullchain.pem").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    (hook,) = re.findall(r"'(install [^']+)'", _block(path, "--deploy-hook").text)
    (settings,) = (yaml.safe_load(block.text) for block in blocks.of(path) if block.mark == "config")
    ports = {"587": free_port(), "465": free_port()}
    daemon = make_daemon({})
    hook = hook.replace(" -g mail-gateway ", " ").replace("/etc/mail-gateway", str(daemon.directory))
    _shell(hook, PATH=os.environ["PATH"], RENEWED_LINEAGE=str(lineage))
    assert stat.S_IMODE((daemon.directory / "privkey.pem").stat().st_mode) == 0o640
    daemon.write_config(_here(settings, daemon.directory, ports))
    daemon.start()
    commands = _block(path, "openssl s_client").text
    for said, port in ports.items():
        commands = commands.replace(f"mail.example.com:{said} ", f"127.0.0.1:{port} ")
    for command in commands.splitlines():
        done = _shell(command, PATH=os.environ["PATH"], SSL_CERT_FILE=str(tmp_path / "authority.pem"))
        assert "Verification: OK" in done.stdout + done.stderr


def _here(settings: dict[str, Any], directory: Path, ports: dict[str, int]) -> dict[str, Any]:
    """The document's listeners with TLS, on ports of our own."""
    given = {one["listen"]: one for one in settings["smtp"]["listeners"]}
    listeners = [{**given[f"0.0.0.0:{said}"], "listen": f"127.0.0.1:{port}"} for said, port in ports.items()]
    tls = {name: path.replace("/etc/mail-gateway", str(directory)) for name, path in settings["tls"].items()}
    return {"smtp": {"listeners": listeners}, "tls": tls}
