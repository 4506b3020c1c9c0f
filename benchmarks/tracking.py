"""`python -m benchmarks.tracking [--rounds N]`: what tracking a message of 100 KB of HTML costs.

Three messages of the same HTML, as 8bit, quoted-printable and base64, with a link in each of 60 table rows. `read` is
what is done once a message (parts, links, the stencil), `fill` what is done for each recipient (its tokens, the text),
`hash` the hash of the new body for its signature; `parse` is the tokenizer alone, for comparison. In milliseconds of
CPU, the best and the median of the rounds. Asserts nothing.
"""

import argparse
import base64
import quopri
import statistics
import time
from collections.abc import Callable
from typing import Final

from turbohtml import tokenize

from gateway.delivery.personal import Addresses, Sample
from gateway.message import canonical, model
from gateway.message.tracking import patching
from gateway.message.tracking.survey import Plan, Survey, Wish
from gateway.tokens import SECRET_BYTES, Subject, Tokens

ROUNDS: Final = 50
LINKS: Final = 60
URL: Final = "https://mail.example.com"
_CELL: Final = "font-family:Arial,Helvetica,sans-serif;font-size:14px;line-height:20px;color:#333333;padding:10px 20px"
_TEXT: Final = "One of the things that we found for you this week, with what it costs and why you might like it. " * 13
_ROW: Final = (
    '<tr>\n<td align="center" valign="top" style="{cell}">\n<a href="https://shop.example.com/p/{n}?utm_source=mail'
    '&amp;utm_campaign=week" style="color:#1a73e8;text-decoration:none" target="_blank">Product {n}</a><br>\n'
    '<img src="https://img.example.com/{n}.png" width="200" height="150" alt="">\n'
    '<p style="margin:0">{text}</p></td>\n</tr>\n'
)


def html() -> bytes:
    rows = "".join(_ROW.format(cell=_CELL, n=number, text=_TEXT) for number in range(LINKS))
    page = f"<!DOCTYPE html>\n<html><head><title>Week</title></head>\n<body><table>\n{rows}</table></body>\n</html>\n"
    return page.replace("\n", "\r\n").encode()


def messages(text: bytes) -> dict[str, tuple[bytes, bytes]]:
    """(header, body) by encoding."""
    lines = text.replace(b"\r\n", b"\n")
    bodies = {
        "8bit": text,
        "quoted-printable": quopri.encodestring(lines).replace(b"\n", b"\r\n"),
        "base64": base64.encodebytes(text).replace(b"\n", b"\r\n"),
    }
    header = "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: {}\r\n\r\n"
    return {name: (header.format(name).encode(), body) for name, body in bodies.items()}


def read(header: bytes, body: bytes) -> Plan:
    survey = Survey(header, Wish(model.TRACK_OPENS | model.TRACK_CLICKS, f"{URL}/t/"))
    survey.feed(body)
    survey.end()
    return survey.plan(Sample(URL))


def digest(body: bytes) -> bytes:
    hasher = canonical.BodyHasher()
    hasher.update(body)
    return hasher.digest()


def measure(work: Callable[[], object], rounds: int) -> str:
    spent = []
    for _ in range(rounds):
        begun = time.process_time_ns()
        work()
        spent.append((time.process_time_ns() - begun) / 1e6)
    return f"{min(spent):6.2f} {statistics.median(spent):6.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    text, tokens = html(), Tokens(b"s" * SECRET_BYTES)
    print(f"{len(text)} octets of HTML with {LINKS} links; best and median of {rounds} rounds, in ms")
    print(f"{'':18}{'read':>14}{'fill':>14}{'hash':>14}{'parse':>14}")
    page = text.decode()
    parsed = measure(lambda: sum(1 for _ in tokenize(page)), rounds)
    for name, (header, body) in messages(text).items():
        plan = read(header, body)

        def fill(body: bytes = body, plan: Plan = plan) -> bytes:
            return patching.whole(body, plan.patches(Addresses(tokens, URL, Subject(1, 2))))

        made = fill()
        columns = (
            measure(lambda header=header, body=body: read(header, body), rounds),  # type: ignore[misc]  # bound now
            measure(fill, rounds),
            measure(lambda made=made: digest(made), rounds),  # type: ignore[misc]  # bound now
            parsed,
        )
        print(f"{name:18}" + "".join(f"{column:>14}" for column in columns))


if __name__ == "__main__":
    main()
