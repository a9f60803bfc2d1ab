"""Delivery to object stores: S3, Google Cloud Storage, Azure Blob Storage, a folder, memory."""

from rambla_py.handlers.objects.handler import ObjectsHandler
from rambla_py.handlers.objects.stores import forget, memory_store

__all__ = ["ObjectsHandler", "forget", "memory_store"]
