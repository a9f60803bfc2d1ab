"""Instrumentation of database drivers and HTTP clients; each module imports its library."""
