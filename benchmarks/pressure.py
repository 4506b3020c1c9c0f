"""`python -m benchmarks.pressure [--minutes 10]`: mail comes faster than the next hop takes it (S25).

The queue grows to its limit; from then on both doors refuse with "later", and take what there is room for. In the end
it must drain: everything acknowledged arrives once, nobody waited for an answer in vain or heard anything else. Exit
code 1 where that is not so, and where one in a hundred acknowledgements took half a second. A line of figures a minute.
"""

import argparse
import re
import sys
import time
from collections import Counter
from typing import Final

from benchmarks.soak import queued
from benchmarks.systems import scratch
from tests.crash.load import Load, Notes
from tests.peers.daemon import Daemon, relay_to
from tests.peers.process import wait_until
from tests.peers.sink import Sink

MOST: Final = 2000  # messages in the queue
CONNECTIONS: Final = 4  # to the next hop, which takes DOT_S for each message: 40 a second
DOT_S: Final = 0.1
WORKERS: Final = 8  # of each door; each submits some 15 a second
PAUSE_S: Final = 0.05
MOST_S: Final = 0.5  # for one in a hundred acknowledgements
LATER: Final = re.compile(r"503 .*backlog_full|452 .*4\.3\.1 ")


def run(minutes: int) -> list[str]:
    """Returns what is wrong."""
    most = {"initial": CONNECTIONS, "maximum": CONNECTIONS}
    settings = {"limits": {"backlog": {"messages": MOST}}, "delivery": {"concurrency": most}}
    with (
        scratch() as directory,
        Sink(dot_delay_s=DOT_S) as sink,
        Daemon(directory / "gw", relay_to(sink.port) | settings) as daemon,
    ):
        with Load(daemon.http_port, daemon.smtp_port, http=WORKERS, smtp=WORKERS, pause_s=PAUSE_S) as load:
            print(f"{'minute':>7}{'queued':>8}{'taken':>8}{'later':>8}{'p99 ms':>8}", flush=True)
            for minute in range(1, minutes + 1):
                time.sleep(60)
                notes = load.notes
                print(
                    f"{minute:7}{queued(daemon):8}{len(notes.acknowledged):8}{len(notes.refused):8}"
                    f"{p99_s(notes) * 1000:8.0f}",
                    flush=True,
                )
            notes = load.stop()
        began = time.monotonic()
        wait_until(lambda: queued(daemon) == 0, "an empty queue", 600)
        print(f"drained in {time.monotonic() - began:.0f} s")
        daemon.stop()
        return judge(notes, Counter({to: len(times) for to, times in sink.by_recipient().items()}))


def judge(notes: Notes, arrived: Counter[str]) -> list[str]:
    """What is not as it should be."""
    lost = notes.acknowledged.keys() - arrived.keys()
    other = [reply for reply in notes.refused.values() if not LATER.search(reply)]
    faults = {
        f"{len(lost)} were acknowledged and did not arrive": bool(lost),
        f"{sum(count > 1 for count in arrived.values())} arrived twice": any(count > 1 for count in arrived.values()),
        f"{len(notes.unanswered)} had no answer": bool(notes.unanswered),
        f"{len(other)} were refused otherwise: {other[:1]}": bool(other),
        "the queue was never full": not notes.refused,
        f"one in a hundred acknowledgements took {p99_s(notes):.2f} s": p99_s(notes) >= MOST_S,
    }
    return [text for text, is_so in faults.items() if is_so]


def p99_s(notes: Notes) -> float:
    times = sorted(notes.accept_s)
    return times[int(len(times) * 0.99)] if times else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    faults = run(parser.parse_args().minutes)
    print("; ".join(faults) or "passed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
