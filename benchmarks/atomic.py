"""Atomic writes of the benchmarks' files."""

from avalanche_proxyfda._files import write_bytes as write_bytes
