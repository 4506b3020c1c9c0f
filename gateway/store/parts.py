"""The parts of the store that work in the writer's thread, made once for an opening of the database.

Guarantees: all of them share the same names, numbers and terms. Nothing is read or written here; who calls the parts,
and when, is the matter of `sqlite.py`.
"""

from dataclasses import dataclass
from typing import Final

from gateway.config import Retention
from gateway.runtime import Clock
from gateway.store import db
from gateway.store.acceptance import Acceptance
from gateway.store.claims import Claims
from gateway.store.db import Statements
from gateway.store.ending import Endings
from gateway.store.erasure import Erasure
from gateway.store.expiry import Expiry
from gateway.store.inspection import Inspection
from gateway.store.keeping import Keeping
from gateway.store.late import Late
from gateway.store.leases import Leases
from gateway.store.names import Counter, Names
from gateway.store.opened import Opened
from gateway.store.operating import Operating
from gateway.store.recording import Recording
from gateway.store.reports import Reports
from gateway.store.rescheduling import Rescheduling
from gateway.store.settlement import Settlement
from gateway.store.sieve import Sieve
from gateway.store.suppression import Suppressing
from gateway.store.suspensions import InForce, Suspending
from gateway.store.sweep import Sweep
from gateway.store.waiting import Waiting

_EPOCH_SHIFT: Final = 32  # tickets of one opening


@dataclass(frozen=True, slots=True)
class Parts:
    """First what several of them share, then each by its noun."""

    sql: Statements
    late_sql: Statements
    erasure_sql: Statements
    names: Names
    events: Counter
    keeping: Keeping
    in_force: InForce
    sieve: Sieve
    acceptance: Acceptance
    claims: Claims
    inspection: Inspection
    leases: Leases
    settlement: Settlement
    late: Late
    suppressing: Suppressing
    reports: Reports
    recording: Recording
    waiting: Waiting
    expiry: Expiry
    operating: Operating
    rescheduling: Rescheduling
    suspending: Suspending
    sweep: Sweep
    erasure: Erasure


def assemble(files: Opened, sql: Statements, *, clock: Clock, retention: Retention) -> Parts:
    """The parts over an opened database."""
    late_sql = {**sql, **db.load("late")}
    erasure_sql = {**sql, **db.load("erasure")}
    names, in_force, sieve, owner = Names(sql), InForce(), Sieve(), files.epoch
    events = Counter(files.last_event)
    # A fence and an attempt's number rise over every opening: the opening counts in the upper bits.
    tickets = Counter(files.epoch << _EPOCH_SHIFT)
    keeping = Keeping(sql, retention)
    endings = Endings(sql, keeping)
    suppressing = Suppressing(sql, sieve)
    acceptance = Acceptance(sql, names, events=events, endings=endings, clock=clock)
    settlement = Settlement(
        sql, names, events=events, tickets=tickets, endings=endings, clock=clock, suppressing=suppressing
    )
    operating = Operating(sql, names, events=events, endings=endings)
    leases = Leases(sql, names, events=events, endings=endings, owner=owner)
    return Parts(
        sql=sql,
        late_sql=late_sql,
        erasure_sql=erasure_sql,
        names=names,
        events=events,
        keeping=keeping,
        in_force=in_force,
        sieve=sieve,
        acceptance=acceptance,
        claims=Claims(sql, names, tickets, owner=owner, in_force=in_force),
        inspection=Inspection(sql, names, events=events, endings=endings, clock=clock),
        leases=leases,
        settlement=settlement,
        late=Late(late_sql, names, events=events, suppressing=suppressing),
        suppressing=suppressing,
        reports=Reports(sql, acceptance, events=events, clock=clock),
        recording=Recording(sql, names, acceptance, settlement),
        waiting=Waiting(sql, names),
        expiry=Expiry(sql, events=events, endings=endings),
        operating=operating,
        rescheduling=Rescheduling(sql, names),
        suspending=Suspending(sql),
        sweep=Sweep(sql, names, events=events, keeping=keeping),
        erasure=Erasure(erasure_sql, leases=leases, events=events, operating=operating, suppressing=suppressing),
    )
