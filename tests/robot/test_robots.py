"""Every shipped robot YAML: what it says holds together, and policies in either space move its arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.robot.vendor_chains import CHAINS, PIPER_FLANGE
from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.action.schedule import make_scheduler
from vla_ros.errors import ConfigError
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.robot.config import Robot
from vla_ros.robot.drivers import driver_for
from vla_ros.robot.geometry import Geometry
from vla_ros.robot.grippers import command_for, reading_at, width_read
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.safety.intake import gripper_ranges
from vla_ros.safety.supervisor import BaseMeasured, Measured, Supervisor
from vla_ros.types import ActionChunk, Command, FloatArray

CONFIGS = Path(__file__).parents[2] / "robot_configs"
FILES = sorted(CONFIGS.glob("*.yaml"))
ROBOTS = [pytest.param(file, id=file.stem) for file in FILES]
MS = 1_000_000
LINE, TURN = 0.04, 0.15
# Cobot Magic's home is for policies in joint space: folded, with shoulder and wrist next to singularities.
BENT = {"agilex_cobot": [0.0, 1.57, -1.57, 0.0, 0.8, 0.0]}
STEP_MS = 50


def forward(robot: Robot, arm: str, q: FloatArray) -> FloatArray:
    """The tool's pose in the arm's base frame, by the independent chain."""
    chain = CHAINS[Path(robot.arms[arm].urdf).stem]
    if robot.arms[arm].tool_frame == chain.tool:
        return chain.forward(q)
    assert robot.arms[arm].tool_frame == "link6"
    return PIPER_FLANGE(q)


def in_common_frame(robot: Robot, arm: str, pose: FloatArray) -> FloatArray:
    base = np.eye(4)
    base[:3, :3] = Rotation.from_euler("xyz", robot.arms[arm].base_pose.rpy).as_matrix()
    base[:3, 3] = robot.arms[arm].base_pose.position
    return base @ pose


class Loop:
    """A Supervisor that is ticked at the YAML's rate over arms that follow at once."""

    def __init__(self, file: Path) -> None:
        self.robot = load_robot(file)
        arms = self.robot.arms
        self.kinematics = {
            name: Kinematics(read_urdf(file, arm), arm.joints, arm.base_frame, arm.tool_frame)
            for name, arm in arms.items()
        }
        scheduler = make_scheduler("newest", gripper_ranges(self.robot), interpolation="linear")
        self.supervisor = Supervisor(self.robot, self.kinematics, scheduler)
        self.period_ns = round(1e9 / self.robot.control.rate_hz)
        self.now_ns, self.steady_ns = 1_700_000_000_000 * MS, 5_000 * MS
        self.q = {name: np.array(BENT.get(file.stem, arm.home)) for name, arm in arms.items()}
        self.gripper = {name: arm.gripper.width[0] for name, arm in arms.items() if arm.gripper is not None}
        self.sent: dict[str, list[FloatArray]] = {name: [] for name in arms}
        self.words: set[str] = set()

    def tick(self) -> dict[str, Command]:
        self.now_ns += self.period_ns
        self.steady_ns += self.period_ns
        states = {name: Measured(q, self.now_ns, self.gripper.get(name)) for name, q in self.q.items()}
        stands = BaseMeasured(np.zeros(2), self.now_ns)
        odometry = None if self.robot.base is None else stands
        commands = self.supervisor.tick(self.now_ns, states, self.steady_ns, odometry)
        for name, command in commands.items():
            self.q[name] = command.sent
            self.gripper[name] = command.gripper or self.gripper[name]
            self.sent[name].append(command.sent)
            self.words.update(command.interventions)
        return commands

    def run(self, channels: Sequence[str], targets: FloatArray) -> dict[str, Command]:
        """Start, follow a chunk of targets [steps, channels] to its end, and the last commands."""
        while self.supervisor.mode == "idle" or not self.supervisor.live:
            self.tick()
            if self.supervisor.mode == "idle":
                self.supervisor.request("start", self.now_ns)
            due = self.now_ns + STEP_MS * MS * np.arange(1, len(targets) + 1, dtype=np.int64)
            if self.supervisor.mode != "idle" and not self.supervisor.live:
                self.supervisor.add_chunk(
                    ActionChunk(tuple(channels), targets, due, self.now_ns), self.now_ns
                )
        commands: dict[str, Command] = {}
        while self.now_ns < due[-1] + 300 * MS:
            commands = self.tick() or commands
        return commands

    def assert_limits(self) -> None:
        """By finite differences of what was sent."""
        dt = self.period_ns / 1e9
        for name, arm in self.robot.arms.items():
            sent = np.array(self.sent[name])
            low, high = np.array(arm.limits.position).T
            assert (sent >= low - 1e-9).all()
            assert (sent <= high + 1e-9).all()
            speed = np.diff(sent, axis=0) / dt
            assert (np.abs(speed) <= np.array(arm.limits.velocity) * (1 + 1e-6)).all()
            acceleration = np.diff(speed, axis=0) / dt
            assert (np.abs(acceleration) <= np.array(arm.limits.acceleration) * (1 + 1e-6)).all()


def line_and_turn(loop: Loop, arm: str, axis: int, steps: int = 60) -> list[FloatArray]:
    """Poses from where the arm is: 40 mm along an axis of the tool and 0.15 rad about it, and half of the way
    back."""
    begin = forward(loop.robot, arm, loop.q[arm])
    share = np.linspace(0, 1, steps) ** 2 * (3 - 2 * np.linspace(0, 1, steps))
    way = np.eye(3)[axis]
    poses = []
    for value in [*share, *(1 - share / 2)]:
        pose = begin.copy()
        pose[:3, 3] += begin[:3, :3] @ way * value * LINE
        pose[:3, :3] = begin[:3, :3] @ Rotation.from_rotvec(way * value * TURN).as_matrix()
        poses.append(pose)
    return poses


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("file", ROBOTS)
def test_tool_poses_drive_the_joints(file: Path, axis: int) -> None:
    """An end-effector policy on a joint-commanded robot: every arm along a line and about it, at 13 mm/s on
    average. What is sent to the joints is held against the line by the independent chain."""
    loop = Loop(file)
    channels: list[str] = []
    columns, wanted = [], {}
    for arm in loop.robot.arms:
        poses = line_and_turn(loop, arm, axis)
        channels += tool_channels(arm)
        columns.append([[*pose[:3, 3], *matrix_to_quaternion(pose[:3, :3])] for pose in poses])
        wanted[arm] = poses
    loop.run(channels, np.concatenate(columns, axis=1))
    loop.assert_limits()
    assert "unreachable" not in loop.words
    for arm, poses in wanted.items():
        way = np.array([pose[:3, 3] for pose in poses])
        assert len(loop.sent[arm]) > 100
        for q in loop.sent[arm][::5]:
            pose = forward(loop.robot, arm, q)
            nearest = int(np.argmin(np.linalg.norm(way - pose[:3, 3], axis=1)))
            assert off_the_line(pose[:3, 3], way) <= 1e-3
            turn = Rotation.from_matrix(poses[nearest][:3, :3].T @ pose[:3, :3]).magnitude()
            assert turn <= 0.02
        last = forward(loop.robot, arm, loop.sent[arm][-1])
        assert np.linalg.norm(last[:3, 3] - way[-1]) <= 1e-4
        assert Rotation.from_matrix(poses[-1][:3, :3].T @ last[:3, :3]).magnitude() <= 1e-3


def off_the_line(point: FloatArray, way: FloatArray) -> float:
    """Distance (m) of a point [3] from the straight line through the ends of a way [N, 3]."""
    furthest = way[np.argmax(np.linalg.norm(way - way[0], axis=1))]
    length = np.linalg.norm(furthest - way[0])
    along = (furthest - way[0]) / length
    share = np.clip((point - way[0]) @ along, 0.0, length)
    return float(np.linalg.norm(point - way[0] - share * along))


def test_joint_targets_drive_a_tool_commanded_arm() -> None:
    """The other way round: a Piper that is commanded by its flange's pose, and a policy in joint space."""
    file = CONFIGS / "agilex_piper.yaml"
    loop = Loop(file)
    home = np.array(loop.robot.arms["arm"].home)
    targets = home + np.linspace(0, 1, 40)[:, None] * np.array([0.2, -0.1, 0.1, 0.15, -0.2, 0.3])
    channels = [*joint_channels("arm", 6), gripper_channel("arm")]
    commands = loop.run(channels, np.column_stack([targets, np.full(40, 0.05)]))
    loop.assert_limits()
    command = commands["arm"]
    np.testing.assert_allclose(command.sent, targets[-1], atol=1e-6)
    arm = loop.robot.arms["arm"].model_copy(update={"driver": "piper_pose"})
    pose = loop.kinematics["arm"].forward(command.sent)
    message: Any = driver_for(arm).message(command.motion, pose, command.gripper, loop.now_ns)
    expected = PIPER_FLANGE(targets[-1])
    np.testing.assert_allclose([message.x, message.y, message.z], expected[:3, 3], atol=1e-5)
    turn = Rotation.from_euler("xyz", [message.roll, message.pitch, message.yaw]).as_matrix()
    np.testing.assert_allclose(turn, expected[:3, :3], atol=1e-5)
    assert message.gripper == pytest.approx(0.05)


@pytest.mark.parametrize("file", ROBOTS)
def test_home_is_well_inside_the_limits(file: Path) -> None:
    """So that a measured home is inside too."""
    robot = load_robot(file)
    for arm in robot.arms.values():
        low, high = np.array(arm.limits.position).T
        assert (np.minimum(np.array(arm.home) - low, high - np.array(arm.home)) > 0.05).all()


@pytest.mark.parametrize("file", ROBOTS)
def test_grippers_read_and_command_the_same_width(file: Path) -> None:
    for arm in load_robot(file).arms.values():
        gripper = arm.gripper
        assert gripper is not None
        for width in np.linspace(*gripper.width, 5):
            assert width_read(gripper, reading_at(gripper, width)) == pytest.approx(width, abs=1e-12)
        closed, opened = (command_for(gripper, width) for width in gripper.width)
        assert closed != opened


def tools_at_home(name: str) -> Mapping[str, FloatArray]:
    """Each arm's tool in the common frame, by the independent chains."""
    robot = load_robot(CONFIGS / f"{name}.yaml")
    return {
        arm: in_common_frame(robot, arm, forward(robot, arm, np.array(entry.home)))
        for arm, entry in robot.arms.items()
    }


def test_alohas_arms_face_each_other() -> None:
    """Half a turn about the middle of the table takes one arm to the other."""
    tools = tools_at_home("aloha")
    half = np.diag([-1.0, -1.0, 1.0, 1.0])
    np.testing.assert_allclose(half @ tools["left"], tools["right"], atol=1e-9)
    assert tools["left"][0, 3] < 0 < tools["right"][0, 3]
    # Their grippers point at each other.
    assert tools["left"][0, 0] > 0.9
    assert tools["right"][0, 0] < -0.9


@pytest.mark.parametrize(
    ("name", "apart"), [("agilex_cobot", 0.6), ("franka_dual", 0.7), ("mobile_aloha", 0.6)]
)
def test_arms_side_by_side_differ_by_their_bases(name: str, apart: float) -> None:
    tools = tools_at_home(name)
    expected = tools["right"].copy()
    expected[1, 3] += apart
    np.testing.assert_allclose(tools["left"], expected, atol=1e-9)


def test_mobile_aloha_is_aloha_that_looks_where_it_drives() -> None:
    """The same arms, but both look forward, and so does the camera above them; none is below."""
    robot, still = (load_robot(CONFIGS / f"{name}.yaml") for name in ("mobile_aloha", "aloha"))
    for name, tool in tools_at_home("mobile_aloha").items():
        assert tool[0, 0] > 0.9, "its gripper points forward"
        assert tool[0, 3] > 0.5 and tool[2, 3] > 1.0
        changed = {"base_pose": still.arms[name].base_pose}
        assert robot.arms[name].model_copy(update=changed) == still.arms[name]
    assert set(robot.cameras) == set(still.cameras) - {"cam_low"} == set(robot.policy.cameras)
    mount = robot.cameras["cam_high"].mount
    assert mount is not None and mount.arm is None
    ahead = Rotation.from_euler("xyz", mount.rpy).as_matrix()[:, 2]
    np.testing.assert_allclose(ahead, [np.cos(0.6457), 0.0, -np.sin(0.6457)], atol=1e-4)
    assert robot.base is not None and still.base is None


@pytest.mark.parametrize("file", ROBOTS)
def test_no_two_streams_share_a_command_topic(file: Path) -> None:
    """A left arm's topic copied into the right arm's block would move the wrong one."""
    robot = load_robot(file)
    topics = {}
    for name, arm in robot.arms.items():
        driver = getattr(arm.drivers, arm.driver)
        topics[name] = {driver.topic, arm.states.topic}
    if robot.base is not None:
        topics["base"] = {robot.base.twist.topic, robot.base.odometry.topic}
    for one, other in combinations(topics, 2):
        assert not topics[one] & topics[other]


def test_a_pipers_fingers_are_kept_off_the_table_too() -> None:
    """Poses are of its flange; what touches first when it points down is 0.136 m further on."""
    file = CONFIGS / "agilex_piper.yaml"
    robot = load_robot(file)
    loop = Loop(file)
    arm = robot.arms["arm"]
    q = np.array([0.0, 1.7, -0.9, 0.0, 1.1, 0.0])
    flange, tip = forward(robot, "arm", q), CHAINS["piper"].forward(q)
    assert tip[2, 3] < flange[2, 3] - 0.1, "it points down"
    geometry = Geometry(robot, loop.kinematics)
    (rule,) = geometry.rules
    # The table's box begins 0.02 m under the base; its round end bulges beyond the tip when it leans.
    found = geometry.distance(rule, q)
    assert tip[2, 3] - 0.03 < found <= tip[2, 3] + 0.02 + 1e-9
    flange_only = robot.model_copy(update={"arms": {"arm": arm.model_copy(update={"tip_frame": None})}})
    bare = Geometry(flange_only, loop.kinematics)
    assert bare.distance(bare.rules[0], q) > found + 0.05


@pytest.mark.parametrize(
    ("tip", "says"),
    [
        ("nowhere", r"tip_frame: found 'nowhere', which is not in the URDF"),
        ("link5", r"tip_frame: found 'link5', which does not move with 'link6' as one piece"),
        ("link7", r"tip_frame: found 'link7', which does not move with 'link6' as one piece"),
    ],
)
def test_a_tip_that_is_no_part_of_the_tool_is_refused(tmp_path: Path, tip: str, says: str) -> None:
    text = (CONFIGS / "agilex_piper.yaml").read_text(encoding="utf-8")
    text = text.replace("tip_frame: gripper_tcp", f"tip_frame: {tip}")
    text = text.replace("urdf: urdf/", f"urdf: {CONFIGS}/urdf/")
    file = tmp_path / "agilex_piper.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        load_robot(file)


def test_the_fifth_robot_needs_no_code() -> None:
    """No module knows the Gen3 by name."""
    package = CONFIGS.parent / "vla_ros"
    knowing = [
        str(file)
        for file in package.rglob("*.py")
        if any(word in file.read_text(encoding="utf-8").lower() for word in ("kinova", "gen3", "robotiq"))
    ]
    assert knowing == []
