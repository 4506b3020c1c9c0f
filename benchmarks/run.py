"""`python -m benchmarks.run [--quick] [--no-postfix] [--backlog N]`: measures and prints; asserts nothing.

All figures are of one run on one machine, load generator and sink included: compare only what stands side
by side.
"""

import argparse
import asyncio
import os
import platform
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from benchmarks import flow, latency, systems
from benchmarks.flow import Flow, Shape
from benchmarks.systems import Sink, System


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the messages, 20 sessions only")
    parser.add_argument("--no-postfix", action="store_true", help="the gateway alone")
    parser.add_argument("--only", choices=["flow", "accept", "large"], help="one part")
    parser.add_argument("--backlog", type=int, default=0, help="the flow once more, with so many queued recipients")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"one RSA-2048 signature in this process: {_signature_ms():.3f} ms\n")
    shapes = _shapes(quick=arguments.quick)
    with systems.scratch() as directory, systems.counting_sink() as sink:
        with systems.gateway(sink, directory) as gateway:
            ours = _flows(gateway, sink, shapes) if arguments.only in {None, "flow"} else []
            rss = gateway.rss_mb()
            if arguments.only in {None, "accept"}:
                _print_accept(gateway, sink, quick=arguments.quick)
            if arguments.only in {None, "large"}:
                _print_large(gateway, sink)
        theirs: list[Flow | None] = [None] * len(shapes)
        if ours and not arguments.no_postfix:
            theirs = _postfix(sink, directory, shapes)
    if ours:
        _print_flows(shapes, ours, theirs)
        print(f"gateway: {rss:.0f} MB resident after these runs")
    if arguments.backlog:
        _compare(arguments.backlog, shapes)


def _shapes(*, quick: bool) -> list[Shape]:
    if quick:
        return [Shape(kept, 20, 1000) for kept in (False, True)]
    counts = {1: 600, 20: 3000, 100: 3000}
    return [Shape(kept, sessions, count) for kept in (False, True) for sessions, count in counts.items()]


def _signature_ms(times: int = 300) -> float:
    """The part of a message's cost that no code of ours can change."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    began = time.process_time()
    for _ in range(times):
        key.sign(b"x" * 500, padding.PKCS1v15(), hashes.SHA256())
    return (time.process_time() - began) * 1000 / times


def _flows(system: System, sink: Sink, shapes: list[Shape]) -> list[Flow]:
    flow.measure(system, sink, Shape(False, 20, 300))  # warms up: processes, caches, connections
    return [flow.measure(system, sink, shape) for shape in shapes]


def _postfix(sink: Sink, directory: Path, shapes: list[Shape]) -> list[Flow | None]:
    if not systems.has_postfix():
        print("Postfix or OpenDKIM is not installed, or this is not root: no comparison\n")
        return [None] * len(shapes)
    with systems.postfix_with_opendkim(sink, directory) as system:
        return [*_flows(system, sink, shapes)]


def _compare(waiting: int, shapes: list[Shape]) -> None:
    """Two daemons in turn, load by load: one with an empty queue, one with much in it."""
    with (
        systems.scratch() as directory,
        systems.counting_sink() as sink,
        systems.gateway(sink, directory / "empty") as empty,
        systems.gateway(sink, directory / "full", waiting=waiting) as full,
    ):
        for system in (empty, full):
            flow.measure(system, sink, Shape(False, 20, 300))
        runs = [(flow.measure(empty, sink, shape), flow.measure(full, sink, shape)) for shape in shapes]
        sizes = empty.rss_mb(), full.rss_mb()
    print(f"\nthe same with {waiting} queued recipients behind it, side by side")
    print(f"{'load':34}{'msg/s':>10}{'CPU ms':>10}{'msg/s':>12}{'CPU ms':>10}{'msg/s':>8}{'CPU':>8}")
    for shape, (one, other) in zip(shapes, runs, strict=True):
        line = f"{shape!s:34}{one.per_second:10.0f}{one.cpu_ms:10.2f}{other.per_second:12.0f}{other.cpu_ms:10.2f}"
        print(f"{line}{other.per_second / one.per_second:8.2f}{other.cpu_ms / one.cpu_ms:8.2f}")
    print(f"resident: {sizes[0]:.0f} and {sizes[1]:.0f} MB")


def _print_flows(shapes: list[Shape], ours: list[Flow], theirs: list[Flow | None]) -> None:
    print(f"SMTP in, RSA-2048, relay out; {flow.SIZE // 1024} KB; smtp-source and smtp-sink on the same cores")
    print(f"{'':34}{'gateway':>20}{'Postfix+OpenDKIM':>22}{'ratio':>16}")
    print(f"{'load':34}{'msg/s':>10}{'CPU ms':>10}{'msg/s':>12}{'CPU ms':>10}{'msg/s':>8}{'CPU':>8}")
    for shape, our, their in zip(shapes, ours, theirs, strict=True):
        line = f"{shape!s:34}{our.per_second:10.0f}{our.cpu_ms:10.2f}"
        if their is not None:
            line += f"{their.per_second:12.0f}{their.cpu_ms:10.2f}"
            line += f"{our.per_second / their.per_second:8.1f}{our.cpu_ms / their.cpu_ms:8.2f}"
        print(line)


def _print_accept(system: System, sink: Sink, *, quick: bool) -> None:
    assert system.http_port is not None
    print(f"acceptance of {flow.SIZE // 1024} KB on kept connections while it is signed and delivered")
    print(f"{'door':12}{'sessions':>10}{'accepted/s':>12}{'p50 ms':>10}{'p99 ms':>10}")
    for sessions, messages in ((1, 300), (20, 1000 if quick else 3000)):
        for name, measure, port in (
            ("HTTP", latency.http, system.http_port),
            ("SMTP", latency.smtp, system.smtp_port),
        ):
            before = sink.count()
            seen = asyncio.run(measure(port, sessions=sessions, messages=messages))
            print(f"{name:12}{sessions:10}{seen.per_second:12.0f}{seen.p50_ms:10.2f}{seen.p99_ms:10.2f}")
            systems.wait_for_count(sink, before + messages // sessions * sessions, 120)
    print()


def _print_large(system: System, sink: Sink) -> None:
    assert system.http_port is not None
    before = sink.count()
    rest = asyncio.run(latency.loop_away_ms(system.http_port, system.smtp_port, messages=0))
    busy = asyncio.run(latency.loop_away_ms(system.http_port, system.smtp_port, messages=3))
    systems.wait_for_count(sink, before + 3, 120)
    print(f"longest GET /health/live: {rest:.1f} ms at rest, {busy:.1f} ms while 3 messages of 25 MB pass")
    print(f"gateway: {system.rss_mb():.0f} MB resident after them\n")


if __name__ == "__main__":
    main()
