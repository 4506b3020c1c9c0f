"""A finished message by Python's smtplib: the argument is the file of a job."""

import json
import smtplib
import ssl
import sys
from pathlib import Path

job = json.loads(Path(sys.argv[1]).read_text())
context = ssl.create_default_context(cafile=job["ca"])
client = (
    smtplib.SMTP_SSL(job["host"], job["port"], timeout=30, context=context)
    if job["tls"] == "implicit"
    else smtplib.SMTP(job["host"], job["port"], timeout=30)
)
with client:
    if job["tls"] == "starttls":
        client.starttls(context=context)
    message = Path(job["raw"]).read_bytes()
    options = ["BODY=8BITMIME"]
    if job["auth"]:
        client.ehlo_or_helo_if_needed()
        if client.has_extn("auth"):
            client.esmtp_features["auth"] = job["auth"]  # of those offered, the one to use
        client.login(job["user"], job["secret"])
    else:
        client.helo()
        options = []
    client.sendmail(job["sender"], job["recipients"], message, mail_options=options)
