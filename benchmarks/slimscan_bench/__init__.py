"""Benchmarks: paired accuracy statistics, latency and the environment they were measured in."""
