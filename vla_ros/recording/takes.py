"""When a recording begins and ends: one for each time that control_node is started, until it is stopped."""

from __future__ import annotations

from dataclasses import dataclass

NS = 1_000_000_000
# What still belongs to a recording once it has ended: how an emergency stop brakes, and the last images.
TAIL_NS = NS

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
    """Turns what control_node says it does into beginnings and ends. Times in ns, of one clock."""

    def __init__(self) -> None:
        self._recording = False
        self._acted = False
        self._mode = self._why = ""
        self._ending: tuple[int, str] | None = None

    def heard(self, status: str, at_ns: int) -> list[Begin | End]:
        """vla/control_status has said `status` (`<mode>` or `<mode>: <reason>`) at `at_ns`."""
        mode, _, why = status.partition(": ")
        # What stopped the arm is told while it comes to rest, and no more when it does.
        if mode != "idle" or self._mode != "stopping":
            self._why = why
        self._mode = mode
        changes: list[Begin | End] = []
        if mode in BEGINS:
            if self._ending is not None:
                changes += self.end(self._ending[1])
            if not self._recording:
                self._recording, self._acted = True, False
                changes.append(Begin(at_ns))
            self._acted = self._acted or mode == "policy"
        elif mode in ENDS and self._recording and self._ending is None:
            self._ending = (at_ns + TAIL_NS, f"{ENDS[mode]}: {self._why}" if self._why else ENDS[mode])
        return changes

    def due(self, now_ns: int) -> list[Begin | End]:
        """What time alone brings."""
        if self._ending is not None and now_ns >= self._ending[0]:
            return self.end(self._ending[1])
        return []

    def end(self, how: str) -> list[Begin | End]:
        """End now what is being recorded, if anything is, because of `how`; a new start begins a new one."""
        recording, self._recording, self._ending = self._recording, False, None
        return [End(how, self._acted)] if recording else []
