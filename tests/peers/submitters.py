"""Clients that are given a finished message: the replacements of sendmail(8), curl, git and the mail modules of
languages. Each is a function of (desk, mail, server) that sends by SMTP and returns how the program ended."""

import sys
from email.header import Header
from pathlib import Path
from typing import Final

from tests.peers import packages
from tests.peers.mailers import Desk, Mail, Outcome, Server
from tests.peers.process import require

SCRIPTS: Final = Path(__file__).parents[1] / "interop" / "clients"


def msmtp(desk: Desk, mail: Mail, server: Server) -> Outcome:
    tls = {
        "": ["--tls=off"],
        "starttls": ["--tls=on", "--tls-starttls=on", f"--tls-trust-file={server.ca}"],
        "implicit": ["--tls=on", "--tls-starttls=off", f"--tls-trust-file={server.ca}"],
    }[server.tls]
    auth = ["--auth=off"]
    if server.auth:
        secret = desk.write("secret", server.secret)
        auth = [f"--auth={server.auth.lower()}", f"--user={server.user}", f"--passwordeval=cat {secret}"]
    return desk.run(
        *(require("msmtp"), f"--host={server.host}", f"--port={server.port}", f"--from={mail.sender}"),
        *(*auth, *tls, "--", *mail.recipients),
        stdin=mail.as_bytes(b"\n"),
    )


def curl(desk: Desk, mail: Mail, server: Server) -> Outcome:
    scheme = "smtps" if server.tls == "implicit" else "smtp"
    credentials = ["--user", f"{server.user}:{server.secret}", "--login-options", f"AUTH={server.auth}"]
    return desk.run(
        *(require("curl"), "-v", "-sS", "--url", f"{scheme}://{server.host}:{server.port}/client.test"),
        *(credentials if server.auth else []),
        *("--mail-from", mail.sender, "--upload-file", desk.write("message.eml", mail.as_bytes())),
        *(word for recipient in mail.recipients for word in ("--mail-rcpt", recipient)),
        *(["--ssl-reqd"] if server.tls else []),
        *("--cacert", server.ca),
    )


def git_send_email(desk: Desk, mail: Mail, server: Server) -> Outcome:
    """A patch as `git format-patch` writes it; the text of the mail is that of the commit, without an attachment."""
    patch = (
        "From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001\n"
        f"From: Shop <{mail.sender}>\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n"
        f"Subject: {Header(mail.subject, 'utf-8').encode()}\n"
        f"MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n{mail.text}"
    )
    credentials = [f"--smtp-auth={server.auth}", f"--smtp-user={server.user}", f"--smtp-pass={server.secret}"]
    return desk.run(
        *(require("git"), "send-email", "--confirm=never", "--suppress-cc=all", "--no-validate", "--no-thread"),
        *(f"--from=Shop <{mail.sender}>", f"--smtp-ssl-cert-path={server.ca}"),
        *(*(f"--to={to}" for to in mail.to), *(f"--bcc={to}" for to in mail.bcc)),
        *(f"--smtp-server={server.host}", f"--smtp-server-port={server.port}"),
        *(credentials if server.auth else ["--smtp-auth=none"]),
        "--smtp-encryption=" + {"": "none", "starttls": "tls", "implicit": "ssl"}[server.tls],
        desk.write("0001.patch", patch),
        environment={"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "EMAIL": mail.sender},
    )


def ssmtp(desk: Desk, mail: Mail, server: Server) -> Outcome:
    """It knows LOGIN only, and does not look at certificates."""
    tls = {"": "", "starttls": "UseTLS=YES\nUseSTARTTLS=YES\n", "implicit": "UseTLS=YES\n"}[server.tls]
    auth = f"AuthUser={server.user}\nAuthPass={server.secret}\nAuthMethod=LOGIN\n" if server.auth else ""
    configuration = desk.write(
        "ssmtp.conf",
        f"mailhub={server.host}:{server.port}\nhostname=client.test\nFromLineOverride=YES\n{auth}{tls}",
    )
    program = packages.debian("ssmtp") / "usr/sbin/ssmtp"
    return desk.run(program, "-C", configuration, f"-f{mail.sender}", *mail.recipients, stdin=mail.as_bytes(b"\n"))


def nullmailer(desk: Desk, mail: Mail, server: Server) -> Outcome:
    """The program that nullmailer's queue runs for each message: envelope and message on descriptor 3."""
    envelope = "\n".join((mail.sender, *mail.recipients, "", "")).encode()
    spooled = desk.write("spooled", envelope + mail.as_bytes(b"\n"))
    options = desk.write(
        "options",
        f"host={server.host}\nport={server.port}\nx509cafile={server.ca}\n"
        + (f"user={server.user}\npass={server.secret}\n" if server.auth else "")
        + ("auth-login\n" if server.auth == "LOGIN" else "")
        + {"": "", "starttls": "starttls\n", "implicit": "tls\n"}[server.tls],
    )
    program = packages.debian("nullmailer") / "usr/lib/nullmailer/smtp"
    run = 'exec "$0" <"$1" 3<"$2"'
    return desk.run(require("sh"), "-c", run, program, options, spooled, environment={"HELOHOST": "client.test"})


def esmtp(desk: Desk, mail: Mail, server: Server) -> Outcome:
    """libESMTP chooses the mechanism itself, and knows no implicit TLS."""
    (desk.home / ".config" / "libesmtp").mkdir(parents=True, mode=0o700)
    desk.write(".config/libesmtp/ca.pem", server.ca.read_bytes())
    auth = f'username="{server.user}"\npassword="{server.secret}"\n' if server.auth else ""
    desk.write(
        ".esmtprc",
        f"hostname={server.host}:{server.port}\n{auth}helo=client.test\n"
        f"starttls={'required' if server.tls else 'disabled'}\n",
    )
    return desk.run(require("esmtp"), "-f", mail.sender, *mail.recipients, stdin=mail.as_bytes(b"\n"))


def smtplib(desk: Desk, mail: Mail, server: Server) -> Outcome:
    return desk.run(sys.executable, SCRIPTS / "smtplib_send.py", desk.job(mail, server))


def net_smtp(desk: Desk, mail: Mail, server: Server) -> Outcome:
    return desk.run(require("perl"), SCRIPTS / "net_smtp.pl", desk.job(mail, server))


def go(desk: Desk, mail: Mail, server: Server) -> Outcome:
    program = packages.go(SCRIPTS / "net_smtp.go")
    return desk.run(program, desk.job(mail, server), environment={"SSL_CERT_FILE": str(server.ca)})
