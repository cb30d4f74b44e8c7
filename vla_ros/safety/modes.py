"""What the robot is doing, as a table: modes, the events that lead from one to another, and their sources.

idle      nothing is sent (before the first start; after a stop, once the arm rests)
waiting   started, but no target may be acted on: the arm is brought to a hold
policy    follows the chunks
homing    moves slowly to the YAML's home
stopping  is brought to a hold, then idle
estop     is brought to a hold and stays there until reset
"""

from __future__ import annotations

IDLE, WAITING, POLICY, HOMING, STOPPING, ESTOP = "idle", "waiting", "policy", "homing", "stopping", "estop"

# {mode: {event: next mode}}; an event that is not listed is refused (requests) or means nothing.
TRANSITIONS: dict[str, dict[str, str]] = {
    IDLE: {"start": WAITING, "stop": IDLE, "reset": IDLE, "home": HOMING, "estop": ESTOP},
    WAITING: {
        "start": WAITING, "stop": STOPPING, "reset": STOPPING, "home": HOMING, "estop": ESTOP,
        "engaged": POLICY, "fault": STOPPING,
    },
    POLICY: {
        "start": POLICY, "stop": STOPPING, "reset": STOPPING, "home": HOMING, "estop": ESTOP,
        "lost": WAITING, "fault": STOPPING,
    },
    HOMING: {
        "stop": STOPPING, "reset": STOPPING, "home": HOMING, "estop": ESTOP,
        "arrived": STOPPING, "lost": STOPPING, "fault": STOPPING,
    },
    STOPPING: {
        "start": WAITING, "stop": STOPPING, "reset": STOPPING, "home": HOMING, "estop": ESTOP,
        "rested": IDLE,
    },
    ESTOP: {"stop": ESTOP, "reset": STOPPING, "estop": ESTOP},
}  # fmt: skip
# {request: what happens, for people}
ANSWERS = {
    "start": "started; waiting for a chunk near the measured state",
    "stop": "stopping",
    "reset": "reset: chunks and any emergency stop are cleared; start again when ready",
    "home": "going home",
    "estop": "emergency stop",
}
SOURCES = {
    IDLE: "hold", WAITING: "hold", POLICY: "policy", HOMING: "home", STOPPING: "hold", ESTOP: "estop",
}  # fmt: skip
