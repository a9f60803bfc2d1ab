"""Tests of ``SqlContract``, by subject."""
