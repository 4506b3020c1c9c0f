"""Mail Gateway: programs hand their outgoing mail to it by SMTP or HTTP; it queues, signs and delivers."""

__version__ = "0.1.0"
