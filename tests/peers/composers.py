"""Clients that make the message themselves, of what a person or a program tells them. Each is a function of
(desk, mail, server) that sends by SMTP and returns how the program ended."""

from pathlib import Path
from typing import Final
from urllib.parse import quote

from tests.peers.mailers import Desk, Mail, Outcome, Server
from tests.peers.process import missing, require
from tests.peers.submitters import SCRIPTS

_NODE_MODULES: Final = Path("/usr/share/nodejs")
_PHPMAILER: Final = Path("/usr/share/php/libphp-phpmailer/autoload.php")


def swaks(desk: Desk, mail: Mail, server: Server) -> Outcome:
    """It has no Bcc: all recipients stand in To."""
    tls = {"": [], "starttls": ["--tls"], "implicit": ["--tls-on-connect"]}[server.tls]
    if tls:
        tls += ["--tls-verify", "--tls-ca-path", str(server.ca)]
    auth = ["--protocol", "SMTP"]  # says HELO
    if server.auth:
        auth = ["--auth", server.auth, "--auth-user", server.user, "--auth-password", server.secret]
    return desk.run(
        *(require("swaks"), "--server", server.host, "--port", str(server.port), "--helo", "client.test"),
        *("--from", mail.sender, "--to", ",".join(mail.recipients)),
        *("--header", f"Subject: {mail.subject}", "--body", f"@{desk.write('body', mail.text)}"),
        *(["--attach-name", mail.attachment.name, "--attach", f"@{mail.attachment}"] if mail.attachment else []),
        *(*auth, *tls),
    )


def s_nail(desk: Desk, mail: Mail, server: Server) -> Outcome:
    scheme = "smtps" if server.tls == "implicit" else "smtp"
    credentials = f"{quote(server.user)}:{quote(server.secret)}@" if server.auth else ""
    settings = [
        "v15-compat=yes",
        f"mta={scheme}://{credentials}{server.host}:{server.port}",
        f"smtp-auth={server.auth.lower() or 'none'}",
        f"from={mail.sender}",
        "sendwait",
        f"DEAD={desk.home / 'dead.letter'}",
        "ttycharset=utf-8",
        "sendcharsets=utf-8",
        "mime-encoding=8bit",
        "hostname=client.test",
        f"tls-ca-file={server.ca}",
        "tls-verify=strict",
        *(["smtp-use-starttls"] if server.tls == "starttls" else []),
    ]
    return desk.run(
        *(require("s-nail"), "-:/", *_each("-S", settings), *_each("-b", mail.bcc), "-s", mail.subject),
        *(*_attached(mail), "-.", *mail.to),
        stdin=mail.text.encode(),
    )


def mutt(desk: Desk, mail: Mail, server: Server) -> Outcome:
    scheme = "smtps" if server.tls == "implicit" else "smtp"
    user = f"{server.user}@" if server.auth else ""
    tls = "yes" if server.tls else "no"
    muttrc = desk.write(
        ".muttrc",
        f'set smtp_url="{scheme}://{user}{server.host}:{server.port}/"\nset smtp_pass="{server.secret}"\n'
        f'set smtp_authenticators="{server.auth.lower()}"\nset ssl_starttls={tls}\nset ssl_force_tls={tls}\n'
        f'set ssl_ca_certificates_file="{server.ca}"\nset certificate_file=""\n'
        f'set from="{mail.sender}"\nset use_from=yes\nset use_envelope_from=yes\nset copy=no\nset allow_8bit=yes\n'
        'set charset="utf-8"\nset send_charset="utf-8"\nset hostname="client.test"\n',
    )
    return desk.run(
        *(require("mutt"), "-n", "-F", str(muttrc), "-s", mail.subject, *_each("-b", mail.bcc)),
        *(*_attached(mail), "--", *mail.to),
        stdin=mail.text.encode(),
        environment={"TERM": "dumb"},
    )


def sendemail(desk: Desk, mail: Mail, server: Server) -> Outcome:
    """It chooses the mechanism itself, and knows no implicit TLS."""
    return desk.run(
        *(require("sendemail"), "-s", f"{server.host}:{server.port}", "-f", mail.sender, "-u", mail.subject),
        *("-t", *mail.to, *(["-bcc", *mail.bcc] if mail.bcc else [])),
        *(["-xu", server.user, "-xp", server.secret] if server.auth else []),
        *("-o", f"tls={'yes' if server.tls else 'no'}", "-o", "message-charset=utf-8", "-o", "fqdn=client.test"),
        *("-o", f"message-file={desk.write('body', mail.text)}", *_attached(mail)),
        environment={"SSL_CERT_FILE": str(server.ca)},
    )


def nodemailer(desk: Desk, mail: Mail, server: Server) -> Outcome:
    _installed(_NODE_MODULES / "nodemailer", "nodemailer")
    script = SCRIPTS / "nodemailer.cjs"
    return desk.run(require("node"), script, desk.job(mail, server), environment={"NODE_PATH": str(_NODE_MODULES)})


def phpmailer(desk: Desk, mail: Mail, server: Server) -> Outcome:
    _installed(_PHPMAILER, "PHPMailer")
    return desk.run(require("php"), SCRIPTS / "phpmailer.php", desk.job(mail, server))


def _attached(mail: Mail) -> list[str]:
    return ["-a", str(mail.attachment)] if mail.attachment else []


def _each(option: str, values: list[str] | tuple[str, ...]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _installed(path: Path, what: str) -> None:
    if not path.exists():
        missing(f"{what} is not installed: there is no {path}")
