"""Encoding of payloads and messages into bytes for the wire."""
