"""Delivery of mail to an SMTP relay."""

from rambla_py.handlers.smtp.handler import SmtpHandler

__all__ = ["SmtpHandler"]
