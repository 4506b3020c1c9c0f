// A message by nodemailer: the argument is the file of a job.
const fs = require("fs");
const nodemailer = require("nodemailer");

const job = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const transport = nodemailer.createTransport({
  host: job.host,
  port: job.port,
  secure: job.tls === "implicit",
  requireTLS: job.tls === "starttls",
  ignoreTLS: job.tls === "",
  name: "client.test",
  authMethod: job.auth,
  auth: job.auth ? { user: job.user, pass: job.secret } : undefined,
  tls: { ca: fs.readFileSync(job.ca) },
});
transport
  .sendMail({
    from: job.sender,
    to: job.to,
    bcc: job.bcc,
    subject: job.subject,
    text: job.text,
    attachments: job.attachment ? [{ path: job.attachment }] : [],
  })
  .then((info) => console.log(info.response))
  .catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
