"""metrics.md: every metric that /metrics has, as they are declared."""

from docs.generate import markdown
from gateway.api.figures import Figures


def page() -> str:
    """The page."""
    rows = [
        (markdown.code(one.name), one.kind, ", ".join(map(markdown.code, one.labels)), one.text)
        for one in Figures().metrics.describe()
    ]
    return markdown.page(
        "Metrics",
        "In Prometheus' text format at `/metrics` of `http.admin` ([log.md](../log.md)). Times are in seconds, sizes in"
        " bytes; a histogram has `_bucket`, `_sum` and `_count`. No label is an address or a free text. `process_*` are"
        " those of every process that Prometheus' own library watches.",
        markdown.table(("name", "kind", "labels", "says"), rows),
    )
