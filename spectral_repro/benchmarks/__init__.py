"""Benchmarks: errors, times and memory of the gradient methods and layers."""
