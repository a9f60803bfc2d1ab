"""Benchmarks of rambla_py beside its peers, interleaved, on private servers: ``make bench``."""
