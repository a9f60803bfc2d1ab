"""This package delivers mail to an SMTP relay over a connection that each worker keeps."""

from rambla_py.handlers.smtp.handler import SmtpHandler

__all__ = ["SmtpHandler"]
