"""Benchmarks of avalanche-proxyfda: streams, the embedded model and the main job."""
