"""One module for each kind of stream; :mod:`benchmarks.streams.registry` loads them."""
