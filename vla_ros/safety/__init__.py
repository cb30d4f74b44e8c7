"""Limits, watchdogs and stopping: plain arithmetic on arrays, time as an argument."""
