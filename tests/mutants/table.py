"""Fifteen faults, each one line of the gateway changed, and the test that must see it.

Two more stand beside the slow tests that see them: a store that does not sync (tests/crash/test_power_cut.py) and
an answer before the commit as a client sees it (tests/crash/test_kill.py).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` stands exactly once in `file` (relative to the package) and becomes `new`; `test` is a node id of pytest
    that passes without it."""

    breaks: str
    file: str
    old: str
    new: str
    test: str


LEASE: Final = "destination, priority, key, message, uncertain, recipients, pieces, expires_at, tell, account_ref"

MUTANTS: Final = (
    # Durability
    Mutant(
        "callers hear of it before the commit",
        "store/writer.py",
        "        self._database.commit()\n",
        "        self._call(self._resolve, outcomes, [transaction])\n        self._database.commit()\n",
        "tests/store/test_sqlite.py::test_trap_22_what_was_not_written_is_not_acknowledged",
    ),
    Mutant(
        "a failed fsync is believed the second time",
        "store/connection.py",
        "return Trouble.LOST if lost else Trouble.JOB",
        "return Trouble.JOB",
        "tests/store/test_sqlite.py::test_after_a_failed_fsync_nothing_is_written",
    ),
    Mutant(
        "a transaction begins without the lock",
        "store/connection.py",
        '"BEGIN IMMEDIATE"',
        '"BEGIN DEFERRED"',
        "tests/store/test_locking.py::test_another_program_cannot_write_into_our_transaction",
    ),
    # Duplicates
    Mutant(
        "a result counts whoever holds the lease by now",
        "store/sql/sqlite.sql",
        f"SELECT recipient, fence, {LEASE}\nFROM leased WHERE recipient = ?1 AND fence = ?2\n",
        f"SELECT recipient, ?2, {LEASE}\nFROM leased WHERE recipient = ?1\n",
        "tests/store/test_settle.py::test_a_stale_fence_changes_nothing",
    ),
    Mutant(
        "what a dead process had in hand comes back unmarked",
        "store/leases.py",
        '        many(self._sql["recipient_uncertain"], doubtful)\n',
        "",
        "tests/store/test_time.py::test_what_a_dead_process_had_in_hand_comes_back_marked",
    ),
    # Doors
    Mutant(
        "a bare line feed ends a message",
        "smtp/content.py",
        "        self._raw += data\n",
        '        self._raw += data.replace(b"\\n.\\n", b"\\r\\n.\\r\\n")\n',
        "tests/security/test_smtp_smuggling.py::test_no_second_transaction",
    ),
    Mutant(
        "line ends pass into header fields",
        "message/header.py",
        "    if (found := _CONTROL.search(text)) is not None:\n",
        "    if (found := None) is not None:\n",
        "tests/unit/test_header.py::test_no_control_character_becomes_a_header",
    ),
    Mutant(
        "a command that is no text comes back as it was sent",
        "smtp/engine.py",
        "raise self._no_command(replies.NOT_TEXT) from None",
        'raise self._no_command(b"500 5.5.2 Not text: " + line + b"\\r\\n") from None',
        "tests/fuzz/test_smtp_engine_fuzz.py::test_any_talk_is_answered_alike_in_any_segments",
    ),
    # Composing
    Mutant(
        "encoded words are longer than readers take",
        "message/encoded_word.py",
        "MAX_LENGTH: Final = 75",
        "MAX_LENGTH: Final = 85",
        "tests/fuzz/test_composing_properties.py::test_composed_messages",
    ),
    Mutant(
        "the pieces of a long file name are counted from one",
        "message/header.py",
        'f"{key}*{i}*", segment',
        'f"{key}*{i + 1}*", segment',
        "tests/unit/test_golden.py::test_byte_for_byte",
    ),
    # Delivery
    Mutant(
        "a line that begins with a dot leaves with one only",
        "delivery/framing.py",
        'data = data.replace(b"\\r\\n.", b"\\r\\n..")',
        'data = data.replace(b"\\r\\n.", b"\\r\\n.")',
        "tests/unit/test_framing.py::test_a_whole_message_arrives_as_it_was",
    ),
    Mutant(
        "one RCPT too many is refused for good",
        "delivery/verdict.py",
        'if word.code == _ABORTED and word.stage == "rcpt":\n        return False',
        'if word.code == _ABORTED and word.stage == "rcpt":\n        return True',
        "tests/unit/test_verdict.py::test_state",
    ),
    Mutant(
        "an enforced MTA-STS policy is taken for advice",
        "delivery/tls/policy.py",
        "sts.mode is Mode.ENFORCE:",
        "sts.mode is Mode.NONE:",
        "tests/unit/test_tlspolicy.py::test_a_host_that_an_enforced_policy_does_not_name_is_not_contacted",
    ),
    # Trust
    Mutant(
        "every address is taken for one of the internet",
        "netguard.py",
        "        if is_public(address):\n",
        "        if address:\n",
        "tests/security/test_ssrf.py::test_s8_a_zone_that_changes_with_every_answer",
    ),
    Mutant(
        "a link is followed whatever its code",
        "tokens.py",
        "if not hmac.compare_digest(code, _code(self._keys[purpose], body + more)) or body[0] != _VERSION:",
        "if body[0] != _VERSION:",
        "tests/api/test_track.py::test_what_was_not_made_here_is_not_there",
    ),
    Mutant(
        "a signature allows further fields",
        "message/dkim.py",
        "range(counts[rank] + 1)",
        "range(counts[rank])",
        "tests/unit/test_dkim.py::test_adding_an_instance_of_any_signed_field_breaks_the_signature",
    ),
)
