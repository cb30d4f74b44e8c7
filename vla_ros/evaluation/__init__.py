"""Trials, their statistics, and the report a person reads."""
