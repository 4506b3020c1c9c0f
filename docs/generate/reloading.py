"""Which keys of the configuration a reload applies, from the table that decides it (gateway/reload.py)."""

from collections.abc import Iterator
from typing import Final

from gateway import config as tree
from gateway.keyterms import Brakes, KeyRetention
from gateway.reload import DECISIONS, How

_PLACES: Final = {
    tree.Config: ("",),
    tree.Tls: ("tls.", "routes.mx.certificate.", "routes.relay.certificate."),
    tree.Http: ("http.",),
    tree.HttpListener: ("http.listeners[].",),
    tree.Smtp: ("smtp.",),
    tree.SmtpListener: ("smtp.listeners[].",),
    tree.Limits: ("limits.",),
    tree.Dns: ("dns.",),
    tree.MxRoute: ("routes.mx.",),
    tree.RelayRoute: ("routes.relay.",),
    tree.CaptureRoute: ("routes.capture.",),
    tree.Domain: ("domains.NAME.",),
    tree.KeyConfig: ("keys.NAME.",),
    Brakes: ("keys.NAME.brakes.",),
    KeyRetention: ("keys.NAME.retention.",),
    tree.Delivery: ("delivery.",),
    tree.Timeouts: ("delivery.timeouts.",),
    tree.Retention: ("retention.",),
    tree.Suppression: ("suppression.",),
    tree.Webhooks: ("webhooks.",),
    tree.PassThrough: ("pass_through.",),
    tree.Dialects: ("dialects.",),
    tree.Log: ("log.",),
}
_WORDS: Final = {How.APPLIED: "yes", How.RESTART: "restart", How.WHILE_THERE: "yes, but not that it comes or goes"}


def words() -> dict[str, str]:
    """What a reload does with each key or section that the table has, by its path."""
    if unplaced := [kind.__name__ for kind in DECISIONS if kind not in _PLACES]:
        raise LookupError(f"docs/generate/reloading.py does not say where these stand: {', '.join(unplaced)}")
    return dict(_words())


def _words() -> Iterator[tuple[str, str]]:
    for kind, fields in DECISIONS.items():
        for place in _PLACES[kind]:
            for decision in fields.values():
                if (word := _WORDS.get(decision.how)) is not None:
                    yield place + decision.path, word


def of(path: str, known: dict[str, str]) -> str:
    """Of a key, or of the nearest section above it that is decided as a whole."""
    while path:
        if path in known:
            return known[path]
        path = path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]
    return "yes"
