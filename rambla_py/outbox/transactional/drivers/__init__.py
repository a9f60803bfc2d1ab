"""Connections of the drivers that ``outbox.publish`` takes; none of the drivers is imported here."""
