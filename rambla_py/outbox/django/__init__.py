"""A Django app whose migration makes the tables of an outbox.

``INSTALLED_APPS = [..., "rambla_py.outbox.django"]``
"""
