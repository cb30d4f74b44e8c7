"""The errors a user meets. Each says where, what was found, what was expected and what to do."""

from __future__ import annotations


class VlaRosError(Exception):
    """Base of every error that vla_ros raises on purpose; the command line prints it bare."""


class ConfigError(VlaRosError):
    """A robot YAML that cannot be used. The text names file, line and key."""


class BundleError(VlaRosError):
    """A policy bundle that is missing, truncated, altered or of another version."""


class ContractError(VlaRosError):
    """A bundle and a robot that do not fit each other."""


class KinematicsError(VlaRosError):
    """No joint solution within tolerance, or a URDF that does not fit the robot YAML."""


class Refused(VlaRosError):
    """An observation or a chunk that must not be used.

    `reason` is a short stable word for counters ("stale", "incomplete", "nan", ...); the text is for
    people.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
