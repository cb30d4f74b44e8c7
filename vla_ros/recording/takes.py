"""When a recording begins and ends: one for each time that control_node is started, until it is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_ros.robot.channels import BASE_CHANNELS, WANTED

NS = 1_000_000_000
# What still belongs to a recording once the robot is sent nowhere else: its last way there, and the images.
TAIL_NS = NS
# An emergency stop brakes for no longer; a command that changes later is none of the recording's.
BRAKING_NS = 10 * NS

# Words of vla/control_status, see `vla_ros.safety.modes`. Holds in between are part of a recording: the arm
# waits there for chunks, and goes on without a new start.
BEGINS = ("waiting", "policy")
ENDS = {"idle": "stopped", "homing": "sent home", "estop": "emergency stop"}


@dataclass(frozen=True)
class Begin:
    """A recording begins, with everything received at or after `at_ns`."""

    at_ns: int


@dataclass(frozen=True)
class End:
    """The recording ends now. how: what ended it, for people; acted: whether the policy moved the arm."""

    how: str
    acted: bool


class Takes:
    """Turns what control_node says it does into beginnings and ends.

    Times called `now_ns` are of one clock that nobody sets.
    """

    def __init__(self) -> None:
        self._recording = self._acted = self._given_up = False
        self._mode = self._why = ""
        # What ended the recording that still goes on, and since when the robot rests or brakes: None on the
        # way home.
        self._how = ""
        self._ended_ns: int | None = None
        self._moved_ns = 0

    @property
    def ending(self) -> bool:
        """Whether a recording ends as soon as the robot rests, so that :meth:`moved` matters."""
        return self._ended_ns is not None

    def heard(self, status: str, received_ns: int, now_ns: int) -> list[Begin | End]:
        """vla/control_status has said `status` (`<mode>` or `<mode>: <reason>`).

        received_ns: when, by the clock by which messages are filed.
        """
        mode, _, why = status.partition(": ")
        # What stopped the arm is told while it comes to rest, and no more when it does.
        if mode != "idle" or self._mode != "stopping":
            self._why = why
        self._mode = mode
        changes: list[Begin | End] = []
        if mode in BEGINS:
            if self._how:
                changes += self.end(self._how)
            if not self._recording and not self._given_up:
                self._recording, self._acted = True, False
                changes.append(Begin(received_ns))
            self._acted = self._acted or mode == "policy"
        elif mode in ENDS:
            self._given_up = False
            if self._recording:
                changes += self._ends(mode, now_ns)
        return changes

    def _ends(self, mode: str, now_ns: int) -> list[Begin | End]:
        if self._ended_ns is not None:
            # Sent home out of the rest in which it ended, it moves anew.
            return self.end(self._how) if mode == "homing" else []
        if not self._how or mode == "estop":
            self._how = f"{ENDS[mode]}: {self._why}" if self._why else ENDS[mode]
        if mode != "homing":
            self._ended_ns = now_ns
        return []

    def moved(self, now_ns: int) -> None:
        """What is sent has moved the robot until now, see :func:`moves`."""
        self._moved_ns = now_ns

    def due(self, now_ns: int) -> list[Begin | End]:
        """What time alone brings."""
        if self._ended_ns is None:
            return []
        rested_ns = min(max(self._ended_ns, self._moved_ns), self._ended_ns + BRAKING_NS)
        return self.end(self._how) if now_ns >= rested_ns + TAIL_NS else []

    def end(self, how: str) -> list[Begin | End]:
        """End now what is being recorded, if anything is, because of `how` if nothing has ended it already.
        Whatever is started, or still followed, begins a new one."""
        recording, self._recording = self._recording, False
        how, self._how, self._ended_ns = self._how or how, "", None
        return [End(how, self._acted)] if recording else []

    def give_up(self, how: str) -> list[Begin | End]:
        """Like :meth:`end`, but only a new start begins a new one: nothing more is recorded of this run."""
        self._given_up = self._mode not in ENDS
        return self.end(how)


def moves(before: Mapping[str, float], command: Mapping[str, float]) -> bool:
    """Whether `command` moves the robot after `before`: both {channel: value} of vla/command, positions and,
    of a base, velocities. What was wanted in place of what was sent does not matter."""
    sent, sent_before = (
        {name: value for name, value in each.items() if not name.endswith(WANTED)}
        for each in (command, before)
    )
    return sent != sent_before or any(command.get(name, 0.0) != 0.0 for name in BASE_CHANNELS)
