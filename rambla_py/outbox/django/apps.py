"""The configuration of the Django app."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["OutboxConfig"]


class OutboxConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """The app ``rambla_outbox``; it has no models."""

    name = "rambla_py.outbox.django"
    label = "rambla_outbox"
    verbose_name = "rambla_py outbox"
