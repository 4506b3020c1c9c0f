"""The pages that recipients see: plain HTML for any browser, also one without images, styles or scripts.

Guarantees: whatever comes from mail is escaped; nothing is loaded from anywhere, no script runs, no cookie is set, no
other page may frame them; none is cached. A page does not say to whom the mail went, for links are forwarded: only what
the recipient recognises.
"""

import base64
import hashlib
from html import escape
from typing import Final

from gateway.api.envelope import Answer, Headers, HttpError, refusal_headers
from gateway.errors import Reason, Refused
from gateway.message import address
from gateway.store.offers import Offer

ONE_CLICK: Final = ("List-Unsubscribe", "One-Click")  # what a form says that means it (RFC 8058, 3.1)
PRIVATE: Final[Headers] = (
    ("Cache-Control", "no-store, private"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Robots-Tag", "noindex, nofollow"),
)
_STYLE: Final = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff;max-width:34rem;margin:0 auto;"
    "padding:2rem 1.25rem;overflow-wrap:anywhere}h1{font-size:1.5rem;line-height:1.25}"
    "input{font:inherit;color:#fff;background:#0b57d0;border:2px solid #0b57d0;border-radius:.4rem;"
    "padding:.7rem 1.4rem;min-height:3rem;cursor:pointer}"
    "input:focus-visible{outline:3px solid #f5a623;outline-offset:2px}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
GUARDED: Final[Headers] = (  # of every page
    *PRIVATE,
    ("Content-Security-Policy", _POLICY),
    ("X-Frame-Options", "DENY"),
)
_HTML: Final = "text/html; charset=utf-8"
_FORM: Final = (
    f'<form method="post"><input type="hidden" name="{ONE_CLICK[0]}" value="{ONE_CLICK[1]}">'
    '<input type="submit" value="Unsubscribe"></form>'
)
_MASK: Final = "•••"
_SHOWN_OF: Final = 2  # a local part up to this long is masked whole


def ask(offer: Offer, *, status: int = 200) -> Answer:
    """The page with the button."""
    return _page(status, "Unsubscribe", f"<p>Do you want to stop {_mail(offer)}?</p>\n{_FORM}")


def done(offer: Offer) -> Answer:
    return _page(
        200,
        "You are unsubscribed",
        f"<p>You have stopped {_mail(offer)}. What was sent before may still arrive.</p>",
    )


def gone() -> Answer:
    """The mail is not known any more: nobody can say whom it went to."""
    return _page(
        410,
        "This link is too old",
        "<p>The mail that it came with is not kept any more, so nobody was unsubscribed. Please use the link in a newer"
        " mail, or write to its sender.</p>",
    )


def too_many() -> Answer:
    return _page(
        429, "Please wait", "<p>This was asked very often. Please try again in a minute.</p>", (("Retry-After", "60"),)
    )


def refusal(refused: Refused) -> Answer:
    """What every operation may answer."""
    status = refused.reason.answer.http
    if refused.reason is Reason.NOT_FOUND:
        return _page(404, "Not found", "<p>There is nothing at this address. Perhaps the link was cut short.</p>")
    if refused.reason is Reason.PAYLOAD_TOO_LARGE:
        return _page(status, "Too large", "<p>This is more than the form sends.</p>", close=True)
    text = "<p>This does not work at the moment. Please try again later.</p>"
    return _page(status, "Please try again", text, refusal_headers(refused))


def http_error(error: HttpError) -> Answer:
    status = error.fault.value[0]
    text = f"<p>{escape(error.text)}</p>"
    return _page(status, "This did not work", text, error.headers, close=error.close)


def masked(mailbox: str) -> str:
    """`a•••@example.org`: whose it is recognises it."""
    local, _, domain = mailbox.rpartition("@")
    return f"{local[0] if len(local) > _SHOWN_OF else ''}{_MASK}@{domain}"


def _mail(offer: Offer) -> str:
    """Which mail it is about, as HTML."""
    kind = f"mail of the kind <b><bdi>{escape(offer.tag)}</bdi></b>" if offer.tag else "all mail"
    sender = escape(address.domain_of(offer.sender) or offer.sender)
    return f"{kind} from the sender <b><bdi>{sender}</bdi></b> to <bdi>{escape(masked(offer.address))}</bdi>"


def _page(status: int, title: str, body: str, headers: Headers = (), *, close: bool = False) -> Answer:
    """`title` is ours, `body` is HTML."""
    document = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )
    return Answer(status, document.encode(), (*GUARDED, *headers), close=close, content_type=_HTML)
