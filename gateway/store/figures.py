"""What the store's writer does, and what is queued, as metrics."""

from typing import Final

from gateway.metrics import Metrics

_COMMIT_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_CHECKPOINT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_JOBS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class StoreFigures:
    """The writing thread counts in `commit_s`, `jobs`, `failed` and `checkpoint_s`."""

    def __init__(self, metrics: Metrics) -> None:
        self.commit_s = metrics.distribution(
            "store_commit_seconds", "Time of a commit, with its fsync; their number is that of commits.", _COMMIT_S
        ).at()
        self.jobs = metrics.distribution("store_commit_jobs", "Writes that shared a commit.", _JOBS).at()
        self.failed = metrics.counter("store_commits_failed_total", "Transactions that were not committed.").at()
        self.checkpoint_s = metrics.distribution(
            "store_checkpoint_seconds", "Time of a checkpoint of the write-ahead log.", _CHECKPOINT_S
        ).at()
        self.wal_pages = metrics.gauge("store_wal_pages", "Length of the write-ahead log, in pages of 4096 bytes.")
