"""Processes that really start, die and are ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.support import Starter, wait_for
from vla_ros import processes
from vla_ros.resources import robot_config

SUPERVISOR = """
import sys
from vla_ros.processes import Process, Supervisor
env = {"PYTHONUNBUFFERED": "1"}
codes = sys.argv[1:]
table = [Process(f"child{i}", (sys.executable, "-c", code), env) for i, code in enumerate(codes)]
ended = Supervisor(table, lambda name, line: print(f"{name}: {line}", flush=True)).run()
print("supervisor:", ended, flush=True)
sys.exit(0 if ended is None else 1)
"""

SLEEPER = "import os, time; print('pid', os.getpid()); time.sleep(60)"
# A node that does not listen to Ctrl-C or SIGTERM.
STUBBORN = (
    "import os, signal, time; signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN);"
    "print('pid', os.getpid()); time.sleep(60)"
)
# One that has a child of its own, as a shell script or a launcher has.
PARENT = (
    "import subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print('pid', child.pid); time.sleep(60)"
)


# One that has something to do before it ends, as control_node has.
HOLDER = """
import os, signal, sys, time
def hold(*_):
    open(FILE, "w").write("held")
    sys.exit(0)
signal.signal(signal.SIGTERM, hold)
print('pid', os.getpid())
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def supervise(start_process: Starter, *codes: str):
    started = start_process([sys.executable, "-c", SUPERVISOR, *codes], "supervisor")
    wait_for(lambda: started.output.count(": pid ") == sum("'pid'" in code for code in codes), 30, "children")
    return started, [int(line.rsplit(" ", 1)[1]) for line in sorted(started.lines) if ": pid " in line]


def gone(pids: list[int]) -> None:
    wait_for(lambda: not any(alive(pid) for pid in pids), 10, f"{pids} to be gone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_and_is_no_failure(start_process: Starter, number: int) -> None:
    started, pids = supervise(start_process, SLEEPER, PARENT)
    os.kill(started.pid, number)
    assert started.wait() == 0, started.output
    assert "supervisor: None" in started.output
    gone(pids)


def test_a_child_that_ends_is_named_and_takes_the_others_along(start_process: Starter) -> None:
    started, pids = supervise(start_process, SLEEPER, "import time, sys; time.sleep(1); sys.exit(3)")
    assert started.wait() == 1
    assert "supervisor: child1 ended with exit status 3" in started.output
    gone(pids)


def test_a_killed_child_is_named_with_its_signal(start_process: Starter) -> None:
    started, pids = supervise(start_process, SLEEPER, PARENT)
    os.kill(pids[0], signal.SIGKILL)
    assert started.wait() == 1
    assert "supervisor: child0 ended by signal SIGKILL" in started.output
    gone(pids)


INTERRUPTIBLE = """
import os, signal, sys, time
from pathlib import Path
from vla_ros.processes import interruptible
before = signal.getsignal(signal.SIGTERM)
try:
    with interruptible():
        try:
            print("at work")
            time.sleep(60)
        finally:
            print("cleaning up")
            while not Path(sys.argv[1]).exists():
                time.sleep(0.01)
            print("cleaned up")
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGTERM) is before)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_and_an_impatient_second_one_leaves_the_clean_up_alone(
    start_process: Starter, tmp_path: Path, number: int
) -> None:
    goes_on = tmp_path / "goes_on"
    started = start_process([sys.executable, "-c", INTERRUPTIBLE, str(goes_on)], "worker")
    started.wait_for_text("at work")
    os.kill(started.pid, number)
    started.wait_for_text("cleaning up")
    for each in processes.ENDING:
        os.kill(started.pid, each)
    goes_on.touch()
    assert started.wait() == 0, started.output
    assert started.lines[-2:] == ["cleaned up", "interrupted True"]


RESTARTING = """
import sys
from vla_ros import processes
processes.REFUSED_WITHIN_S = float(sys.argv[1])
env = {"PYTHONUNBUFFERED": "1"}
run = lambda name, restart: processes.Process(name, (sys.executable, "-c", sys.argv[2]), env, restart)
table = [run("control", False), run("policy", True)]
ended = processes.Supervisor(table, lambda name, line: print(f"{name}: {line}", flush=True)).run()
print("supervisor:", ended, flush=True)
"""


def pids_of(started, name: str) -> list[int]:
    return [int(line.rsplit(" ", 1)[1]) for line in started.lines if line.startswith(f"{name}: pid ")]


def test_a_policy_that_dies_is_started_again_and_the_others_go_on(start_process: Starter) -> None:
    started = start_process([sys.executable, "-c", RESTARTING, "0.0", SLEEPER], "supervisor")
    wait_for(lambda: started.output.count(": pid ") == 2, 30, "children")
    os.kill(pids_of(started, "policy")[0], signal.SIGKILL)
    wait_for(lambda: len(pids_of(started, "policy")) == 2, 30, "the policy to be started again")
    assert "policy: policy ended by signal SIGKILL; started again" in started.output
    assert alive(pids_of(started, "control")[0])
    os.kill(started.pid, signal.SIGINT)
    assert started.wait() == 0, started.output
    gone([*pids_of(started, "policy"), *pids_of(started, "control")])


SPARE = RESTARTING.replace('run("policy", True)', 'replace(run("policy", True), needed=False)').replace(
    "import sys\n", "import sys\nfrom dataclasses import replace\n"
)


def test_one_that_is_not_needed_ends_nobody_and_is_tried_again_later(start_process: Starter) -> None:
    started = start_process([sys.executable, "-c", SPARE, "3.0", SLEEPER], "supervisor")
    wait_for(lambda: started.output.count(": pid ") == 2, 30, "children")
    os.kill(pids_of(started, "policy")[0], signal.SIGKILL)
    killed = time.monotonic()
    wait_for(lambda: len(pids_of(started, "policy")) == 2, 30, "it to be started again")
    assert time.monotonic() - killed > 1.0
    assert alive(pids_of(started, "control")[0])
    os.kill(started.pid, signal.SIGINT)
    assert started.wait() == 0, started.output


def test_one_that_is_not_needed_sees_the_others_end(start_process: Starter, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    # Both say when they were told to end, and the first takes its time.
    code = (
        "import os, signal, sys, time\n"
        "def end(*_):\n"
        "    if os.environ.get('NEEDED'):\n"
        "        time.sleep(0.7)\n"
        f"    open({str(ended)!r}, 'a').write(os.environ.get('NEEDED', 'onlooker') + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "print('pid', os.getpid())\n"
        "time.sleep(60)\n"
    )
    table = (
        "import sys\n"
        "from vla_ros.processes import Process, Supervisor\n"
        "argv, env = (sys.executable, '-c', sys.argv[1]), {'PYTHONUNBUFFERED': '1'}\n"
        "table = [Process('onlooker', argv, env, restart=True, needed=False),\n"
        "         Process('control', argv, {**env, 'NEEDED': 'control'})]\n"
        "print(Supervisor(table, lambda name, line: print(f'{name}: {line}', flush=True)).run())\n"
    )
    started = start_process([sys.executable, "-c", table, code], "supervisor")
    wait_for(lambda: started.output.count(": pid ") == 2, 30, "children")
    os.kill(started.pid, signal.SIGINT)
    assert started.wait() == 0, started.output
    assert ended.read_text() == "control onlooker "


def test_a_policy_that_refuses_to_start_is_not_started_again(start_process: Starter) -> None:
    started = start_process([sys.executable, "-c", RESTARTING, "60.0", SLEEPER], "supervisor")
    wait_for(lambda: started.output.count(": pid ") == 2, 30, "children")
    os.kill(pids_of(started, "policy")[0], signal.SIGKILL)
    assert started.wait() == 0
    assert "supervisor: policy ended by signal SIGKILL" in started.output
    gone([*pids_of(started, "policy"), *pids_of(started, "control")])


def test_children_do_not_outlive_a_supervisor_that_was_killed(start_process: Starter, tmp_path: Path) -> None:
    held = tmp_path / "held"
    started, pids = supervise(start_process, SLEEPER, HOLDER.replace("FILE", repr(str(held))))
    os.kill(started.pid, signal.SIGKILL)
    gone(pids)
    # Told, not killed: a control node has to bring the arm to a hold first.
    assert held.read_text() == "held"


def test_a_child_that_ignores_signals_is_killed(start_process: Starter) -> None:
    started, pids = supervise(start_process, STUBBORN)
    os.kill(started.pid, signal.SIGINT)
    time.sleep(0.5)
    assert started.returncode is None
    os.kill(started.pid, signal.SIGINT)  # an impatient second Ctrl-C need not wait out the grace period
    assert started.wait(4.0) == 0
    gone(pids)


def test_output_is_passed_on_with_the_name(start_process: Starter) -> None:
    started, _ = supervise(start_process, "print('hello'); import sys; print('oh', file=sys.stderr)")
    started.wait()
    assert "child0: hello" in started.lines and "child0: oh" in started.lines


def test_a_terminal_that_stands_still_does_not_stop_a_node(start_process: Starter, tmp_path: Path) -> None:
    done = tmp_path / "done"
    talker = (
        f"for i in range(40_000): print('x' * 100)\nopen({str(done)!r}, 'w')\nimport time; time.sleep(60)"
    )
    held = SUPERVISOR.replace('print(f"{name}: {line}", flush=True)', "time.sleep(60)")
    held = f"import time\n{held}"
    start_process([sys.executable, "-c", held, talker], "supervisor")
    wait_for(done.exists, 30, "the node to get through what it prints")


def test_the_table() -> None:
    names = [process.name for process in processes.table("franka", "franka_pick", sim=True)]
    assert names == ["sim_node", "control_node", "policy_node"]
    assert [process.name for process in processes.table("franka", "p")] == ["control_node", "policy_node"]
    for process in processes.table("franka", "p", True, ("-r", "__ns:=/left"), "pick up the red block"):
        assert process.argv[:4] == (sys.executable, "-m", f"vla_ros.nodes.{process.name}", "--ros-args")
        assert process.argv[-2:] == ("-r", "__ns:=/left")


def test_recordings_get_a_node_that_nobody_needs() -> None:
    recorder = processes.table("franka", "p", record="/data/runs", extra=("-r", "__ns:=/left"))[-1]
    assert recorder.name == "record_node" and recorder.restart and not recorder.needed
    assert 'folder:="/data/runs"' in recorder.argv and 'robot:="franka"' in recorder.argv
    assert recorder.argv[-2:] == ("-r", "__ns:=/left")
    assert all(process.needed for process in processes.table("franka", "p", sim=True))


def test_cameras_with_a_source_get_a_node_each(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    front = "{source: {v4l2: {device: /dev/video0}}}"
    file.write_text(f"extends: {robot_config('franka')}\nname: lab\ncameras: {{front: {front}}}\n")
    camera, control = processes.table(str(file), extra=("-r", "__ns:=/left"))
    assert (camera.name, control.name) == ("camera_front", "control_node")
    assert camera.restart and camera.argv[1:3] == ("-m", "vla_ros.nodes.camera_node")
    assert camera.argv[4:6] == ("-r", "__node:=camera_front")
    assert f'robot:="{file}"' in camera.argv and 'camera:="front"' in camera.argv
    assert camera.argv[-2:] == ("-r", "__ns:=/left")
    names = [process.name for process in processes.table(str(file), sim=True)]
    assert names == ["sim_node", "control_node"]


def test_the_mode_goes_to_both_ends_of_the_chunks() -> None:
    control, policy = processes.table("franka", "p", mode="rtc")
    assert 'mode:="rtc"' in control.argv and 'mode:="rtc"' in policy.argv
    assert not any(
        item.startswith("mode:=") for process in processes.table("franka", "p") for item in process.argv
    )


@given(st.text(st.characters(exclude_categories=("C", "Z")) | st.sampled_from(" \t\"':{}[]#&*!|>%@`,\\")))
def test_a_prompt_arrives_as_it_was_typed(prompt: str) -> None:
    argv = processes.table("franka", "p", prompt=prompt)[-1].argv
    (argument,) = [item for item in argv if item.startswith("prompt:=")]
    assert yaml.safe_load(argument.removeprefix("prompt:=")) == prompt
