"""The rules of `vla robot check --live`, without a graph: each thing that can be wrong and its fix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_ros.robot.config import PublishedPose, Robot
from vla_ros.robot.graph_check import JOINT_STATE, Endpoint, Seen, Wanted, inputs, wanted_line
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.robot.measured_check import gripper_line, image_line, joint_lines, pose_lines

CONFIGS = Path(__file__).parents[2] / "robot_configs"
FRANKA = load_robot(CONFIGS / "franka.yaml")
ARM = FRANKA.arms["arm"]
STATES = Wanted(
    ("arms", "arm", "states", "topic"), "joints", "publisher", JOINT_STATE, rate_hz=100, max_age_ms=50
)
DRIVER = Endpoint("/driver", JOINT_STATE)
GOOD = Seen("/joints", (DRIVER,), received=300, rate_hz=100.0, age_ms=2.0)
COMMANDS = Wanted(("arms", "arm", "drivers", "x", "topic"), "commands", "subscriber", "std_msgs/msg/Bool")
CONTROLLER = Endpoint("/controller", "std_msgs/msg/Bool")


def test_what_is_there_and_as_declared_is_ok() -> None:
    line = wanted_line(STATES, GOOD, {})
    assert (line.ok, line.what, line.fix) == (True, "arms.arm.states.topic /joints", "")
    assert line.found == "100 Hz, declared 100 Hz, 2 ms old"
    assert wanted_line(COMMANDS, Seen("/commands", (CONTROLLER,)), {}).ok


@pytest.mark.parametrize(
    ("changes", "found", "fix"),
    [
        (
            {"endpoints": ()},
            "no publisher",
            "start the node that publishes it, or correct arms.arm.states.topic: of type "
            "sensor_msgs/msg/JointState there is /left/joints, /other",
        ),
        (
            {"endpoints": (Endpoint("/tf", "tf2_msgs/msg/TFMessage"),)},
            "tf2_msgs/msg/TFMessage, not sensor_msgs/msg/JointState",
            "correct arms.arm.states.topic: of type sensor_msgs/msg/JointState there is /left/joints, /other",
        ),
        (
            {"endpoints": (replace(DRIVER, reliability="best_effort"),)},
            "/driver is best effort: a reliable subscriber gets nothing",
            "write reliability: best_effort beside arms.arm.states.topic",
        ),
        ({"received": 0}, "/driver publishes nothing", "start it up: no message came on /joints"),
        ({"received": 1, "rate_hz": None}, "one message only, not 100 Hz", "look at why its node stalls"),
        (
            {"rate_hz": 30.0},
            "30 Hz, declared 100 Hz",
            "have /driver publish faster, or write arms.arm.states.rate_hz: 30 and a max_age_ms above 33",
        ),
        ({"rate_hz": 250.0}, "250 Hz, declared 100 Hz", "write arms.arm.states.rate_hz: 250"),
        (
            {"age_ms": -4000.0},
            "100 Hz, declared 100 Hz, -4000 ms old",
            "synchronise both machines' clocks (chrony, PTP), or have the node stamp by the ROS clock; where "
            "its "
            "stamps are another clock's, write arms.arm.states.stamps: arrival",
        ),
    ],
)
def test_a_topic_that_is_not_as_the_yaml_says(changes: dict[str, object], found: str, fix: str) -> None:
    others = {"/other": [JOINT_STATE], "/left/joints": [JOINT_STATE], "/x": ["std_msgs/msg/Bool"]}
    line = wanted_line(STATES, replace(GOOD, **changes), others)
    assert (line.ok, line.found, line.fix) == (False, found, fix)


def test_joint_states_slower_than_the_commands_are_another_topics() -> None:
    """A lower rate_hz, as told of other topics, would be refused by the loader."""
    (states,) = (wanted for wanted in inputs(FRANKA) if wanted.path == ("arms", "arm", "states", "topic"))
    broadcaster = "/franka_robot_state_broadcaster/measured_joint_states"
    seen = replace(GOOD, name="/joint_states", rate_hz=30.0)
    line = wanted_line(states, seen, {broadcaster: [JOINT_STATE], "/joint_states": [JOINT_STATE]})
    assert (line.ok, line.found) == (False, "30 Hz, declared 1000 Hz")
    assert line.fix == (
        "too slow for control.rate_hz = 100: name the arm's own broadcaster in arms.arm.states.topic, not an "
        f"aggregated topic: of type sensor_msgs/msg/JointState there is {broadcaster}"
    )
    assert "publish faster" in wanted_line(states, replace(seen, rate_hz=400.0), {}).fix


def test_bounds_of_rates() -> None:
    for rate, ok in ((79.0, False), (81.0, True), (124.0, True), (126.0, False)):
        assert wanted_line(STATES, replace(GOOD, rate_hz=rate), {}).ok is ok
    # Where stamps are not the ROS clock's they are not judged.
    assert wanted_line(replace(STATES, max_age_ms=None), replace(GOOD, age_ms=1e9), {}).ok


def test_images_of_the_other_transport() -> None:
    image = Wanted(
        ("cameras", "front", "topic"), "image", "publisher", "sensor_msgs/msg/Image", "best_effort"
    )
    end = Endpoint("/camera", "sensor_msgs/msg/CompressedImage", "best_effort")
    line = wanted_line(image, Seen("/image", (end,)), {})
    assert line.fix == "write transport: compressed beside cameras.front.topic"
    line = wanted_line(image, Seen("/image", (replace(end, type="sensor_msgs/msg/CameraInfo"),)), {})
    assert line.fix == (
        "correct cameras.front.topic: nothing on the graph has the type sensor_msgs/msg/Image"
    )


def test_a_description_that_later_nodes_never_get() -> None:
    (wanted,) = (wanted for wanted in inputs(FRANKA) if wanted.path[-1] == "robot_description")
    end = Endpoint("/rsp", "std_msgs/msg/String", durability="transient_local")
    assert wanted_line(wanted, Seen("/robot_description", (end,), received=1), {}).ok
    line = wanted_line(wanted, Seen("/robot_description", (replace(end, durability="volatile"),)), {})
    assert line.found == "/rsp is volatile: who comes later gets nothing"
    assert line.fix == (
        "have /rsp publish it with transient local durability, or leave arms.arm.robot_description out"
    )


def test_commands() -> None:
    line = wanted_line(COMMANDS, Seen("/commands"), {})
    assert line.found == "no subscriber"
    assert line.fix.startswith("start the controller that obeys it, or correct arms.arm.drivers.x.topic")
    line = wanted_line(COMMANDS, Seen("/commands", (replace(CONTROLLER, durability="transient_local"),)), {})
    assert line.ok is False and "volatile" in line.fix
    line = wanted_line(COMMANDS, Seen("/commands", (CONTROLLER,), rivals=("/teleop", "/control_node")), {})
    assert line.found == "commanded by /teleop, /control_node" and line.fix.startswith("stop all but one")
    # control_node itself.
    assert wanted_line(COMMANDS, Seen("/commands", (CONTROLLER,), rivals=("/control_node",)), {}).ok


def test_inputs_are_all_of_the_yaml() -> None:
    assert [".".join(map(str, wanted.path)) for wanted in inputs(FRANKA)] == [
        "arms.arm.robot_description",
        "arms.arm.states.topic",
        "arms.arm.gripper.states.topic",
        "cameras.front.topic",
        "cameras.front.camera_info",
        "cameras.wrist.topic",
        "cameras.wrist.camera_info",
    ]
    assert inputs(FRANKA)[1].reliability == "best_effort" and inputs(FRANKA)[1].rate_hz == 1000


# What the messages say.


def joints(names: list[str], positions: list[float]) -> tuple[bool | None, str, str]:
    (line,) = joint_lines("arm", ARM, names, positions)
    return line.ok, line.found, line.fix


def test_joint_states() -> None:
    assert joints(ARM.joints[::-1], ARM.home[::-1]) == (True, "all 7, within arms.arm.limits.position", "")
    ok, found, fix = joints([f"panda_joint{i}" for i in range(1, 8)], ARM.home)
    assert (
        ok is False and "panda_joint1" in found and fix.startswith("name arms.arm.joints as the driver does")
    )
    degrees = np.degrees(ARM.home).tolist()
    ok, found, fix = joints(ARM.joints, degrees)
    assert ok is False and "fr3_joint4 at -135, outside [-3.022, -0.172]" in found and "degrees" in fix
    ok, found, fix = joints(ARM.joints, [*ARM.home[:3], 0.3, *ARM.home[4:]])
    assert ok is False and found == "fr3_joint4 at 0.3, outside [-3.022, -0.172]"
    assert fix.startswith("bring the arm inside its limits")


def test_gripper_readings() -> None:
    gripper = ARM.gripper
    assert gripper is not None
    names = gripper.joints
    assert gripper_line("arm", gripper, names, [0.04, 0.042]).ok
    line = gripper_line("arm", gripper, names, [3.0, 0.0])
    assert (line.ok, line.found) == (False, "reads 3, arms.arm.gripper.width is [0, 0.08]")
    assert line.fix.startswith("write arms.arm.gripper.reads: [")
    counts = gripper.model_copy(update={"reads": (3.0, 0.5)})
    assert gripper_line("arm", counts, names, [2.9, 0.0]).ok
    assert gripper_line("arm", counts, names, [4.0, 0.0]).ok is False
    assert gripper_line("arm", gripper, ["left"], [0.0]).ok is False


def test_image_sizes() -> None:
    assert image_line("front", FRANKA.cameras["front"], 640, 480).ok
    line = image_line("front", FRANKA.cameras["front"], 1280, 720)
    assert line.fix == "write width: 1280 and height: 720, or have the camera send 640×480"


# Left and right.


@pytest.fixture(scope="module")
def dual() -> Robot:
    robot = load_robot(CONFIGS / "franka_dual.yaml")
    arms = {
        name: arm.model_copy(
            update={"published_pose": PublishedPose(topic=f"/{name}/pose", type="pose_stamped")}
        )
        for name, arm in robot.arms.items()
    }
    return robot.model_copy(update={"arms": arms})


def tool(dual: Robot, name: str, first_joint: float) -> np.ndarray:
    arm = dual.arms[name]
    kinematics = Kinematics(
        read_urdf(CONFIGS / "franka_dual.yaml", arm), arm.joints, arm.base_frame, arm.tool_frame
    )
    return kinematics.forward([first_joint, *arm.home[1:]])


def test_swapped_arms_are_found_by_where_their_tools_are(dual: Robot) -> None:
    left, right = tool(dual, "left", 0.4), tool(dual, "right", -0.4)
    measured = {"left": left, "right": right}
    assert [line.ok for line in pose_lines(dual, measured, measured)] == [True, True]
    lines = list(pose_lines(dual, measured, {"left": right, "right": left}))
    assert [line.ok for line in lines] == [False, False]
    assert lines[0].what == "arms.left kinematics against /left/pose"
    assert "it fits the joint states of arm 'right'" in lines[0].found
    assert lines[0].fix == (
        "the two arms are swapped: swap arms.left.states.topic and arms.right.states.topic, or their "
        "published_pose"
    )


def test_arms_in_one_posture_cannot_be_told_apart(dual: Robot) -> None:
    same = tool(dual, "left", 0.2)
    lines = list(pose_lines(dual, {"left": same, "right": same}, {"left": same, "right": same}))
    assert [line.ok for line in lines] == [None, None]
    assert "arm 'right' is in the same posture: move one" in lines[0].found


def test_another_tool_or_none(dual: Robot) -> None:
    left, right = tool(dual, "left", 0.4), tool(dual, "right", -0.4)
    flange = left.copy()
    flange[:3, 3] -= 0.1034 * left[:3, 2]
    (line,) = pose_lines(dual, {"left": left, "right": right}, {"left": flange})
    assert line.ok is False and line.found == "103 mm and 0 deg apart"
    assert line.fix.startswith("check arms.left.tool_frame and base_frame")
    assert list(pose_lines(dual, {"left": left}, {})) == []
    # Without a reading of its own joints there is nothing to compare.
    assert list(pose_lines(dual, {}, {"left": left})) == []
