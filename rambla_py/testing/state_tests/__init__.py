"""The tests of ``StateContract``, a class for each behaviour."""
