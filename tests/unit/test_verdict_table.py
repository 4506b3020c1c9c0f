"""What hosts say, in their own words, and what it means: stage, reply, then state, class and scope."""

import pytest

from gateway.delivery import rules
from gateway.delivery.reply import make_reply
from gateway.delivery.verdict import Decision, Word, another_host, classify, judge
from gateway.events import BounceClass, Scope, State

NOW = 1_800_000_000_000
RETRY_S = (60, 300, 900, 1800, 3600, 7200, 14400)

B, D = State.BOUNCED, State.DEFERRED
US, MAIL, BOX = Scope.INFRASTRUCTURE, Scope.CONTENT, Scope.RECIPIENT
C = BounceClass


def word(stage: str, *lines: str) -> Word:
    """As dialogue.py makes it of what came."""
    reply = make_reply([line.encode() for line in lines])
    return Word(stage, reply.code, reply.enhanced, reply.text)


def decide(said: Word) -> Decision:
    return judge(said, tries=1, expires_at=NOW + 432_000_000, now=NOW, retry_s=RETRY_S, jitter=0.5)


Row = tuple[str, str, State, BounceClass, Scope]

REPUTATION: tuple[Row, ...] = (
    ("rcpt", "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail", D, C.REPUTATION_BLOCK, US),
    ("dot", "550 5.7.28 Gmail has detected an unusual rate of mail from your SPF domain", B, C.REPUTATION_BLOCK, US),
    ("dot", "550 5.7.1 [192.0.2.1 12] an unusual rate of unsolicited mail came", B, C.REPUTATION_BLOCK, US),
    ("greeting", "421 4.7.0 [192.0.2.1] unusual rate of unsolicited mail", D, C.REPUTATION_BLOCK, US),
    ("dot", "550 5.7.1 very low reputation of the sending IP address", B, C.REPUTATION_BLOCK, US),
    ("dot", "550 5.7.1 very low reputation of the sending domain, unsolicited", B, C.REPUTATION_BLOCK, US),
    ("rcpt", "550 5.7.606 Access denied, banned sending IP [192.0.2.1]", B, C.REPUTATION_BLOCK, US),
    ("mail", "550 5.7.620 Access denied, banned sending IP [192.0.2.1]", B, C.REPUTATION_BLOCK, US),
    ("rcpt", "550 5.7.649 Access denied, banned sending IP [192.0.2.1]", B, C.REPUTATION_BLOCK, US),
    ("mail", "451 4.7.650 rate limited due to IP reputation (S775)", D, C.REPUTATION_BLOCK, US),
    ("rcpt", "451 4.7.500 Server busy. Please try again later (S77714)", D, C.REPUTATION_BLOCK, US),
    ("rcpt", "550 5.7.511 Access denied, banned sender[192.0.2.1]", B, C.REPUTATION_BLOCK, US),
    ("mail", "550 5.7.1 messages from [192.0.2.1] weren't sent; on our block list (S3140)", B, C.REPUTATION_BLOCK, US),
    ("mail", "550 5.7.1 messages weren't sent. Your network is on our block list (S3150)", B, C.REPUTATION_BLOCK, US),
    ("greeting", "550 5.7.1 part of their network is on our block list (S3140)", D, C.REPUTATION_BLOCK, US),
    ("greeting", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", D, C.REPUTATION_BLOCK, US),
    ("mail", "421 4.7.0 [TS03] All messages from 192.0.2.1 will be permanently deferred", D, C.REPUTATION_BLOCK, US),
    ("greeting", "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1", D, C.REPUTATION_BLOCK, US),
    ("rcpt", "554 5.7.1 Service unavailable; client blocked using zen.spamhaus.org", B, C.REPUTATION_BLOCK, US),
    ("rcpt", "550 Your address is listed at bl.spamcop.net, user unknown here", B, C.REPUTATION_BLOCK, US),
    ("rcpt", "550 mailbox unavailable: 192.0.2.1 is blacklisted", B, C.REPUTATION_BLOCK, US),
    ("greeting", "554 Your access was rejected due to the sending MTA's poor reputation", D, C.REPUTATION_BLOCK, US),
    ("rcpt", "554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1", B, C.REPUTATION_BLOCK, US),
    ("dot", "554 rejected, see http://www.barracudanetworks.com/reputation/?ip=192.0.2.1", B, C.REPUTATION_BLOCK, US),
    ("greeting", "421 Too many spams from your IP (192.0.2.1)", D, C.REPUTATION_BLOCK, US),
    ("rcpt", "550 5.2.0 Mail rejete. Mail rejected. ofr_506 [506]", B, C.REPUTATION_BLOCK, US),
)

ABOUT_US: tuple[Row, ...] = (
    ("rcpt", "550 5.7.25 The IP address has no PTR record", B, C.AUTHENTICATION_FAILED, US),
    ("rcpt", "450 4.7.1 Client host rejected: cannot find your reverse hostname", D, C.AUTHENTICATION_FAILED, US),
    ("greeting", "554 IP=192.0.2.1 has no PTR record", D, C.AUTHENTICATION_FAILED, US),
    ("greeting", "554 5.7.1 go away", D, C.BAD_CONNECTION, US),
    ("greeting", "521 example.com does not accept mail", D, C.BAD_CONNECTION, US),
    ("greeting", "550 5.1.1 user unknown", D, C.BAD_CONNECTION, US),
    ("ehlo", "550 5.7.1 Helo command rejected: not fully qualified", D, C.PROTOCOL_ERRORS, US),
    ("ehlo", "504 5.5.2 need fully-qualified hostname", D, C.PROTOCOL_ERRORS, US),
    ("starttls", "554 5.7.3 Unable to initialize security subsystem", D, C.BAD_CONNECTION, US),
    ("auth", "535 5.7.8 Username and Password not accepted", D, C.AUTHENTICATION_FAILED, US),
    ("auth", "550 5.2.1 The mailbox is disabled", D, C.AUTHENTICATION_FAILED, US),
    ("auth", "525 5.7.13 User account disabled", D, C.AUTHENTICATION_FAILED, US),
    ("mail", "530 5.7.0 Must issue a STARTTLS command first", D, C.AUTHENTICATION_FAILED, US),
    ("rcpt", "530 5.7.1 Authentication required", D, C.AUTHENTICATION_FAILED, US),
    ("rcpt", "550 Your account has been disabled", B, C.POLICY_RELATED, US),
    ("rcpt", "454 Throttling failure: Maximum sending rate exceeded.", D, C.TRANSIENT_FAILURE, US),
    ("dot", "454 Throttling failure: Daily message quota exceeded.", D, C.TRANSIENT_FAILURE, US),
    ("rcpt", "550 5.4.5 Daily user sending limit exceeded.", B, C.TRANSIENT_FAILURE, US),
    ("greeting", "421 Too many concurrent SMTP connections", D, C.BAD_CONNECTION, US),
    ("rcpt", "452 4.5.3 Too many recipients", D, C.TOO_MANY_RECIPIENTS, US),
    ("rcpt", "550 too many recipients", B, C.TOO_MANY_RECIPIENTS, US),
    ("rcpt", "554 5.7.1 Relay access denied", B, C.ROUTING_ERRORS, US),
    ("rcpt", "550 relay not permitted", B, C.ROUTING_ERRORS, US),
    ("rcpt", "550 5.7.64 TenantAttribution; Relay Access Denied", B, C.POLICY_RELATED, US),
    ("rcpt", "550 5.7.1 Helo command rejected: Host not found", B, C.POLICY_RELATED, US),
    ("rcpt", "550 Administrative prohibition", B, C.POLICY_RELATED, US),
    ("rcpt", "550 5.7.1 not you", B, C.POLICY_RELATED, US),
    ("dot", "554 5.7.1 [CS01] Message rejected due to local policy", B, C.POLICY_RELATED, US),
    ("rcpt", "554 5.4.6 Hop count exceeded - possible mail loop", B, C.ROUTING_ERRORS, US),
    ("rcpt", "500 5.5.1 Command unrecognized", B, C.PROTOCOL_ERRORS, US),
)

ABOUT_THE_MESSAGE: tuple[Row, ...] = (
    ("dot", "554 5.7.9 Message not accepted for policy reasons", B, C.AUTHENTICATION_FAILED, MAIL),
    ("dot", "550 5.7.26 the sender is unauthenticated", B, C.AUTHENTICATION_FAILED, MAIL),
    ("dot", "550 5.7.1 Email rejected per DMARC policy for example.com", B, C.AUTHENTICATION_FAILED, MAIL),
    ("dot", "550 5.7.509 Access denied, sending domain does not pass DMARC", B, C.AUTHENTICATION_FAILED, MAIL),
    ("dot", "550 5.7.515 Access denied, required authentication level", B, C.AUTHENTICATION_FAILED, MAIL),
    ("rcpt", "550 5.7.23 rejected due to: SPF fail - not authorized", B, C.AUTHENTICATION_FAILED, MAIL),
    ("rcpt", "550 5.7.1 Recipient address rejected: due to: SPF fail", B, C.AUTHENTICATION_FAILED, MAIL),
    ("mail", "553 5.1.8 <a@b.example>: Sender address rejected: Domain not found", B, C.INVALID_SENDER, MAIL),
    ("rcpt", "550 5.7.1 <a@b.example>: Sender address rejected: Access denied", B, C.INVALID_SENDER, MAIL),
    ("rcpt", "550 Sender verify failed", B, C.INVALID_SENDER, MAIL),
    ("mail", "550 5.1.1 User unknown", B, C.INVALID_SENDER, MAIL),
    ("mail", "550 no such user here", B, C.INVALID_SENDER, MAIL),
    ("mail", "550 no", B, C.INVALID_SENDER, MAIL),
    ("rcpt", "550 5.7.124 not in allowed-senders list", B, C.POLICY_RELATED, MAIL),
    ("rcpt", "550 5.7.133 senders outside the organisation", B, C.POLICY_RELATED, MAIL),
    ("rcpt", "550 5.7.2 may not post here", B, C.POLICY_RELATED, MAIL),
    ("dot", "552 5.7.0 blocked: its content presents a potential security issue", B, C.CONTENT_REFUSED, MAIL),
    ("dot", "550 5.7.1 this message is likely unsolicited mail", B, C.CONTENT_REFUSED, MAIL),
    ("dot", "554 5.7.1 Spam message rejected", B, C.CONTENT_REFUSED, MAIL),
    ("dot", "550 This message contains a virus", B, C.CONTENT_REFUSED, MAIL),
    ("dot", "552 5.3.4 Message size exceeds fixed limit", B, C.CONTENT_REFUSED, MAIL),
    ("dot", "552 message size exceeds the limit", B, C.CONTENT_REFUSED, MAIL),
    ("dot", "554 5.6.0 bad content", B, C.CONTENT_REFUSED, MAIL),
    ("dot", "554 Transaction failed", B, C.CONTENT_REFUSED, MAIL),
)

ABOUT_THE_MAILBOX: tuple[Row, ...] = (
    ("rcpt", "550 5.1.1 <x@a.example>: Recipient address rejected: User unknown", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "550 5.7.1 User unknown", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "550 No such user here", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "554 delivery error: This user doesn't have a yahoo.com account", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "550 Requested action not taken: mailbox unavailable", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "550 5.5.0 Requested action not taken: mailbox unavailable (S20)", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "550 5.4.1 Recipient address rejected: Access denied.", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "550 #5.1.0 Address rejected.", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "511 sorry, no mailbox here by that name", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "550 <blacklist@spamhaus.example>: Recipient unknown", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "550 5.1.10 RESOLVER.ADR.RecipientNotFound", B, C.BAD_DOMAIN, BOX),
    ("rcpt", "550 5.7.17 Mailbox owner has changed", B, C.INVALID_RECIPIENT, BOX),
    ("rcpt", "452 4.2.2 The email account is over quota", D, C.QUOTA_ISSUES, BOX),
    ("dot", "552 5.2.2 Mailbox full", B, C.QUOTA_ISSUES, BOX),
    ("rcpt", "554 mailbox full", B, C.QUOTA_ISSUES, BOX),
    ("rcpt", "550 5.7.1 user is over quota", B, C.QUOTA_ISSUES, BOX),
    ("rcpt", "552 Requested mail action aborted: exceeded storage allocation", D, C.QUOTA_ISSUES, BOX),
    ("rcpt", "450 4.2.1 the user is receiving mail too quickly", D, C.QUOTA_ISSUES, BOX),
    ("rcpt", "554 5.2.122 recipient's hourly limit exceeded", B, C.QUOTA_ISSUES, BOX),
    ("rcpt", "550 5.2.1 The email account is disabled", B, C.INACTIVE_MAILBOX, BOX),
    ("rcpt", "554 This mailbox is disabled (554.30)", B, C.INACTIVE_MAILBOX, BOX),
    ("rcpt", "550 5.7.1 mailbox inactive", B, C.INACTIVE_MAILBOX, BOX),
    ("rcpt", "450 4.1.1 unverified address", D, C.INVALID_RECIPIENT, BOX),
)

NOT_YET: tuple[Row, ...] = (
    ("rcpt", "450 4.2.0 <x@a.example>: Recipient address rejected: Greylisted", D, C.TRANSIENT_FAILURE, US),
    ("rcpt", "451 4.7.1 Greylisting in action, please come back later", D, C.TRANSIENT_FAILURE, US),
    ("rcpt", "451 grey listed, listed at zen.spamhaus.org", D, C.TRANSIENT_FAILURE, US),
    ("dot", "451 4.7.0 Graylisted", D, C.TRANSIENT_FAILURE, US),
    ("rcpt", "450 mailbox busy", D, C.TRANSIENT_FAILURE, US),
    ("rcpt", "552 too much", D, C.TRANSIENT_FAILURE, US),
    ("rcpt", "552 5.3.4 too big", D, C.CONTENT_REFUSED, MAIL),
    ("rcpt", "421 4.2.2 over quota", D, C.TRANSIENT_FAILURE, US),
    ("data", "421 5.1.1 no such user", D, C.TRANSIENT_FAILURE, US),
    ("rcpt", "550 4.2.1 mixed signals", D, C.INACTIVE_MAILBOX, BOX),
    ("rcpt", "299 odd", State.DELIVERED, C.UNCATEGORIZED, US),
    ("rcpt", "333 odd", D, C.TRANSIENT_FAILURE, US),
    ("dot", "999 odd", D, C.TRANSIENT_FAILURE, US),
)


@pytest.mark.parametrize(
    ("stage", "line", "state", "bounce_class", "scope"),
    [*REPUTATION, *ABOUT_US, *ABOUT_THE_MESSAGE, *ABOUT_THE_MAILBOX, *NOT_YET],
)
def test_reply(stage: str, line: str, state: State, bounce_class: BounceClass, scope: Scope) -> None:
    decision = decide(word(stage, line))
    assert decision.state is state
    if state is not State.DELIVERED:
        assert (decision.bounce_class, decision.scope) == (bounce_class, scope)


@pytest.mark.parametrize("text", ["", "5.2.2 over quota", "5.5.3 too many recipients", "5.0.0 no"])
def test_trap_5_552_to_a_recipient_is_temporary(text: str) -> None:
    said = word("rcpt", f"552 {text}")
    assert decide(said).state is State.DEFERRED
    assert another_host(said)
    assert decide(word("dot", f"552 {text}")).state is State.BOUNCED  # to the content it means what it says


def test_trap_7_a_delivery_is_never_taken_back() -> None:
    accepted = word("dot", "250 2.0.0 queued; user unknown, over quota, blocked using zen.spamhaus.org")
    assert decide(accepted) == Decision(State.DELIVERED, decide(accepted).event)
    assert judge(accepted, tries=9, expires_at=0, now=NOW, retry_s=RETRY_S, jitter=0).state is State.DELIVERED


@pytest.mark.parametrize("stage", ["route", "dns", "connect"])
@pytest.mark.parametrize("enhanced", ["4.4.3", "5.4.4", "5.1.2", ""])
def test_trap_11_no_answer_about_a_relay_is_temporary(stage: str, enhanced: str) -> None:
    said = Word(stage, 0, enhanced, "the relay cannot be found: NXDOMAIN")
    assert decide(said).state is State.DEFERRED
    assert another_host(said)


@pytest.mark.parametrize("stage", ["store", "internal"])
def test_trap_16_what_is_stuck_for_our_own_reasons_expires(stage: str) -> None:
    stuck = Word(stage, 0, "4.3.0", "451 4.3.0 cannot be read")
    assert judge(stuck, tries=1, expires_at=NOW, now=NOW, retry_s=RETRY_S, jitter=0).state is State.FAILED


@pytest.mark.parametrize("row", [*REPUTATION, *ABOUT_US])
def test_trap_18_what_is_said_about_us_never_counts_against_the_recipient(row: Row) -> None:
    stage, line, *_ = row
    for at in (stage, "rcpt", "dot") if stage in {"rcpt", "mail", "dot"} else (stage,):
        assert classify(word(at, line))[1] is Scope.INFRASTRUCTURE


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "starttls", "tls", "auth", "connect", "route"])
@pytest.mark.parametrize("line", ["550 5.1.1 user unknown", "552 5.2.2 over quota", "554 5.7.1 dmarc", "550 no"])
def test_a_session_that_does_not_come_about_is_nobodys_fault(stage: str, line: str) -> None:
    decision = decide(word(stage, line))
    assert (decision.state, decision.scope) == (State.DEFERRED, Scope.INFRASTRUCTURE)


def test_text_says_nothing_against_a_precise_code() -> None:
    assert classify(word("rcpt", "550 5.1.1 unknown; by the way, dmarc and spam")) == (C.INVALID_RECIPIENT, BOX)
    assert classify(word("rcpt", "550 5.7.606 user unknown")) == (C.REPUTATION_BLOCK, US)


def test_a_word_of_our_own_is_not_searched_for_what_hosts_say() -> None:
    assert classify(Word("rcpt", 0, "", "lost: user unknown")) == (C.INVALID_RECIPIENT, US)
    assert classify(Word("body", 0, "4.4.2", "over quota")) == (C.BAD_CONNECTION, US)


def test_lines_of_a_reply_are_read_together() -> None:
    said = word("dot", "550-5.7.1 Our system has detected an unusual", "550 5.7.1 rate of unsolicited mail")
    assert classify(said) == (C.REPUTATION_BLOCK, US)


def test_every_phrase_can_be_met() -> None:
    """Lower case and without a mail address, or no text would ever match; and no phrase stands twice."""
    phrases = [phrase for rule in rules.TEXTS for phrase in rule.phrases]
    assert len(set(phrases)) == len(phrases)
    for rule in rules.TEXTS:
        for phrase in rule.phrases:
            assert phrase == phrase.lower()
            assert "@" not in phrase
            first = next(r for r in rules.TEXTS if any(p in phrase for p in r.phrases) and rule.codes <= r.codes)
            assert first.meaning == rule.meaning, phrase
