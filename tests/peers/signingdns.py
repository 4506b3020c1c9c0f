"""Real DNSSEC on loopback: NSD serves zones that are signed here, Unbound validates them and is what is asked.

Nobody else is asked: names outside the zones do not exist. Both programs are unpacked into a private directory where
the machine does not have them.
"""

import functools
import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import dns.dnssec
import dns.dnssectypes
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.rdtypes.ANY.DNSKEY
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.config import Listen
from tests.peers import packages
from tests.peers.process import find, free_port, wait_until

_HEAD: Final = """$ORIGIN {zone}.
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 300
@ NS ns
ns A 127.0.0.1
"""
_NSD: Final = """server:
  ip-address: 127.0.0.1@{port}
  do-ip6: no
  username: ""
  chroot: ""
  zonesdir: "{directory}"
  database: ""
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/xfrd.state"
  xfrdir: "{directory}"
  zonelistfile: "{directory}/zone.list"
  server-count: 1
remote-control:
  control-enable: no
"""
_UNBOUND: Final = """server:
  interface: 127.0.0.1@{port}
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  do-daemonize: no
  do-not-query-localhost: no
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  module-config: "validator iterator"
  num-threads: 1
  local-zone: "." static
remote-control:
  control-enable: no
"""


@functools.cache
def _program(name: str, *libraries: str) -> tuple[str, dict[str, str]]:
    """The path of a program and the environment it needs."""
    path = find(name)
    if path is not None:
        return path, dict(os.environ)
    directories = [str(next(packages.debian(library).glob("usr/lib/*-linux-gnu*"))) for library in libraries]
    unpacked = packages.debian(name) / "usr" / "sbin" / name
    return str(unpacked), {**os.environ, "LD_LIBRARY_PATH": ":".join(directories)}


class SigningDns:
    """`with SigningDns(directory, signed, unsigned) as dns`: ask at `dns.listen`.

    Zones are text in the format of zone files, without SOA and NS, by name. Of the names in `bogus`
    ("name TYPE", absolute) the signatures are wrong.
    """

    def __init__(
        self,
        directory: Path,
        signed: Mapping[str, str],
        unsigned: Mapping[str, str] | None = None,
        *,
        bogus: Sequence[str] = (),
    ) -> None:
        self._directory = directory
        self._signed = dict(signed)
        self._unsigned = dict(unsigned or {})
        self._bogus = [one.split(" ") for one in bogus]
        self._processes: list[subprocess.Popen[bytes]] = []
        self.listen = Listen("127.0.0.1", 0)

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _start(self) -> None:
        anchors = [self._write(zone, text, sign=True) for zone, text in self._signed.items()]
        for zone, text in self._unsigned.items():
            self._write(zone, text, sign=False)
        zones = [*self._signed, *self._unsigned]
        authority = free_port()
        config = _NSD.format(port=authority, directory=self._directory)
        for zone in zones:
            config += f'zone:\n  name: "{zone}"\n  zonefile: "{zone}.zone"\n'
        nsd, environment = _program("nsd", "libfstrm0", "libprotobuf-c1")
        self._run(nsd, environment, "nsd.conf", config, authority, zones[0])
        resolver = free_port()
        config = _UNBOUND.format(port=resolver, directory=self._directory)
        for zone in zones:
            config = config.replace("remote-control", f'  local-zone: "{zone}." transparent\nremote-control')
        for anchor in anchors:
            config = config.replace("remote-control", f'  trust-anchor: "{anchor}"\nremote-control')
        for zone in zones:
            config += f'stub-zone:\n  name: "{zone}."\n  stub-addr: 127.0.0.1@{authority}\n'
        unbound, environment = _program("unbound", "libprotobuf-c1")
        self._run(unbound, environment, "unbound.conf", config, resolver, zones[0])
        self.listen = Listen("127.0.0.1", resolver)

    def _run(self, program: str, environment: dict[str, str], name: str, config: str, port: int, zone: str) -> None:
        path = self._directory / name
        path.write_text(config)
        log = self._directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen([program, "-d", "-c", str(path)], env=environment, stdout=output, stderr=output)
        self._processes.append(process)

        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{program} does not start: {log.read_text(errors='replace')}")
            return _answers(port, zone)

        wait_until(ready, f"{program} does not answer: {log}")

    def _write(self, zone: str, text: str, *, sign: bool) -> str:
        """Write the zone's file; returns its DS record, "" where it is not signed."""
        parsed = dns.zone.from_text(_HEAD.format(zone=zone) + text, origin=f"{zone}.", relativize=False)
        anchor = _sign(parsed) if sign else ""
        for name, kind in self._bogus:
            if dns.name.from_text(name).is_subdomain(parsed.origin or dns.name.root):
                _spoil(parsed, name, kind)
        (self._directory / f"{zone}.zone").write_text(parsed.to_text(relativize=False, want_origin=True))
        return anchor


def _sign(zone: dns.zone.Zone) -> str:
    assert zone.origin is not None
    private = ec.generate_private_key(ec.SECP256R1())
    key = dns.dnssec.make_dnskey(private.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257)
    now = datetime.now(UTC)
    with zone.writer() as transaction:
        dns.dnssec.sign_zone(
            zone,
            transaction,
            keys=[(private, key)],
            add_dnskey=True,
            dnskey_ttl=300,
            inception=now - timedelta(hours=1),
            expiration=now + timedelta(days=1),
        )
    return f"{zone.origin} DS {dns.dnssec.make_ds(zone.origin, key, 'SHA256')}"


def _spoil(zone: dns.zone.Zone, name: str, kind: str) -> None:
    """Change a bit of the signature over these records."""
    rdataset: Any = zone.find_rdataset(dns.name.from_text(name), "RRSIG", kind)
    [signature] = list(rdataset)
    wrong = bytes([signature.signature[0] ^ 1]) + signature.signature[1:]
    rdataset.clear()
    rdataset.add(signature.replace(signature=wrong))


def _answers(port: int, zone: str) -> bool:
    query = dns.message.make_query(f"{zone}.", dns.rdatatype.SOA)
    try:
        return bool(dns.query.udp(query, "127.0.0.1", timeout=0.5, port=port).answer)
    except (OSError, dns.exception.DNSException):
        return False
