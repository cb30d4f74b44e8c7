"""Benchmarks: `vla bench NAME`. Imports as `vla_ros.benchmarks`, in every kind of install."""
