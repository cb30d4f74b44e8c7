"""The twin without ROS: gripper goals, task, the robots it stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from vla_ros.errors import ConfigError
from vla_ros.resources import robot_config
from vla_ros.robot.config import Robot
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.sim.camera_process import SnapshotFormat
from vla_ros.sim.gripper import GripperOutcome
from vla_ros.sim.pick_twin import PickTwin
from vla_ros.sim.task import draw_scene
from vla_ros.sim.timeline import Timeline
from vla_ros.sim.world import World

FILE = robot_config("franka")
ROBOT = load_robot(FILE)
URDF = read_urdf(FILE, ROBOT.arms["arm"])
MS = 1_000_000


def twin(robot: Robot = ROBOT, seed: int = 7) -> PickTwin:
    return PickTwin(robot, dict.fromkeys(robot.arms, URDF), seed)


def changed(**changes: object) -> Robot:
    """The franka YAML with values at dotted keys replaced (or removed: None)."""
    data = yaml.safe_load(Path(FILE).read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = data
        for key in parents:
            part = part[key]
        if value is None:
            del part[last]
        else:
            part[last] = value
    return Robot.model_validate(data)


def run(subject: PickTwin, begin_ns: int, milliseconds: int) -> tuple[int, GripperOutcome | None]:
    """Step on; the time reached, and how the gripper goal ended if it did."""
    now, looked = begin_ns, begin_ns
    ended = None
    for _ in range(milliseconds * MS // subject.step_ns):
        now += subject.step_ns
        subject.step(now)
        if now - looked >= 20 * MS:
            ended = ended or subject.gripper.outcome(now, now - looked)
            looked = now
    return now, ended


def test_steps_as_often_as_the_driver_publishes() -> None:
    subject = twin()
    assert subject.step_ns == MS
    begin = subject.world.time
    run(subject, 0, 100)
    assert subject.world.time - begin == pytest.approx(0.1)


def test_reset_is_the_scene_of_the_seed() -> None:
    subject = twin(seed=3)
    subject.arm.controllers.joint_position(np.array(ROBOT.arms["arm"].home) + 0.3)
    run(subject, 0, 300)
    words = subject.reset(1_000_005)
    scene = subject.scene
    assert scene == draw_scene(1_000_005) and scene.instruction in words
    np.testing.assert_allclose(subject.world.joint_positions, scene.start_joints, atol=1e-12)
    run(subject, 0, 300)
    np.testing.assert_allclose(subject.world.joint_positions, scene.start_joints, atol=5e-3)


def test_gripper_closes_on_nothing_and_opens_again() -> None:
    subject = twin()
    now, _ = run(subject, 0, 50)
    subject.gripper.command(0.0, 30.0)
    now, ended = run(subject, now, 1500)
    assert ended is not None and ended.reached and not ended.stalled
    assert ended.width < 0.003
    np.testing.assert_allclose(subject.gripper.positions(), subject.world.gripper_width / 2)
    subject.gripper.command(0.08, 30.0)
    now, ended = run(subject, now, 1500)
    assert ended is not None and ended.reached
    assert subject.gripper.positions().tolist() == pytest.approx([0.04, 0.04], abs=0.002)


def test_gripper_stalls_on_a_block() -> None:
    subject = twin()
    now, _ = run(subject, 0, 50)
    tcp = subject.world.tcp_pose
    yaw = np.arctan2(tcp[1, 1], tcp[0, 1])  # the fingers move along y of the tool
    half = yaw / 2
    subject.world.place_block(0, tcp[:3, 3], (np.cos(half), 0.0, 0.0, np.sin(half)))
    subject.world.model.opt.gravity[:] = 0.0
    subject.gripper.command(0.0, 30.0)
    _, ended = run(subject, now, 1500)
    assert ended is not None and ended.stalled and not ended.reached
    assert ended.width == pytest.approx(0.04, abs=0.003)


@pytest.mark.parametrize("width", [-0.01, 0.1, float("nan")])
def test_gripper_refuses_widths_it_does_not_have(width: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        twin().gripper.command(width, 30.0)


def test_task_time_starts_with_the_first_command() -> None:
    subject = twin()
    now, _ = run(subject, 0, 500)
    target, other = subject.scene.target, (subject.scene.target + 1) % 3
    lifted = (0.5, 0.0, 0.3), (1.0, 0.0, 0.0, 0.0)
    subject.world.place_block(other, *lifted)
    now, _ = run(subject, now, 50)
    assert subject.task_text == "running", "nothing counts before the robot was commanded"
    subject.note_command(now)
    run(subject, now, 50)
    assert subject.task_text == f"failure: wrong block {subject.scene.blocks[other].color}"

    subject.reset(7)
    subject.world.model.opt.gravity[:] = 0.0
    subject.world.place_block(target, *lifted)
    subject.note_command(0)
    run(subject, 0, 600)
    assert subject.task_text == "success"


def test_time_out() -> None:
    subject = twin()
    subject.note_command(0)
    subject.step(14_900 * MS)
    assert subject.task_text == "running"
    subject.step(15_100 * MS)
    assert subject.task_text == "failure: time-out"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cameras__front__width": 1280}, "cameras.front: 1280x480; the twin renders 640x480"),
        (
            {"cameras__top": yaml.safe_load(Path(FILE).read_text())["cameras"]["front"]},
            "cameras.top: the twin has no such camera, only front, wrist",
        ),
        ({"arms__arm__gripper": None}, "arms.arm.gripper"),
        ({"arms__arm__gripper__width": [0.0, 0.14]}, "arms.arm.gripper.width"),
        ({"arms__arm__tool_frame": "fr3_link8"}, "stands for the FR3 with Franka Hand"),
    ],
)
def test_other_robots_are_refused_by_name(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        twin(changed(**changes))
    assert words in str(caught.value)


def test_snapshot_carries_poses_and_colours() -> None:
    subject = twin(seed=5)
    run(subject, 0, 40)
    snapshot = subject.snapshot(123_456_789)
    other = World()
    shown = SnapshotFormat(other)
    assert shown.size == len(snapshot) <= 4096, "a pipe takes more than that in pieces"
    assert shown.show(snapshot) == 123_456_789
    np.testing.assert_array_equal(other.data.qpos, subject.world.data.qpos)
    np.testing.assert_array_equal(other.model.geom_rgba, subject.world.model.geom_rgba)


def test_timeline_keeps_absolute_deadlines() -> None:
    import time

    line = Timeline(2 * MS, simulated=True)
    begin = time.monotonic_ns()
    stamps = []
    for index in range(100):
        stamps.append(line.wait())
        if index == 50:
            time.sleep(0.02)  # a pause is made up for
    spent = time.monotonic_ns() - begin
    assert np.diff(stamps).tolist() == [2 * MS] * 99
    assert spent >= 200 * MS - MS
    assert line.given_up > 0 or spent < 320 * MS


def test_timeline_follows_the_system_clock_after_a_long_pause() -> None:
    import time

    line = Timeline(MS, simulated=False)
    stamps = [line.wait() for _ in range(5)]
    time.sleep(0.25)
    stamps += [line.wait() for _ in range(5)]
    assert line.given_up >= 1
    assert all(np.diff(stamps) > 0)
    assert abs(stamps[-1] - time.time_ns()) < 200 * MS
