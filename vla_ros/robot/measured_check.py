"""What comes from a running robot against its YAML: joints, gripper, odometry, image sizes, the tool's pose.

Plain data in, lines out: `vla_ros.nodes.graph_look` listens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from vla_ros.errors import Refused
from vla_ros.robot.config import Arm, Gripper, MobileBase, Robot
from vla_ros.robot.config_cameras import Camera
from vla_ros.robot.graph_check import Line
from vla_ros.robot.states import positions_by_name
from vla_ros.types import FloatArray

# A published pose may be of a moment earlier, and a driver rounds.
_NEAR_M, _NEAR_RAD = 0.02, 0.1
# Beyond its limits by this much a joint is not where the YAML has it (rad, or m).
_BEYOND = 0.05
# A gripper reads a little beyond closed and open: a share of the travel.
_BEYOND_TRAVEL = 0.15


def joint_lines(name: str, arm: Arm, names: Sequence[str], positions: Sequence[float]) -> Iterator[Line]:
    """Whether a message on the arm's `states` holds its joints, within their limits."""
    what = f"arms.{name}.joints"
    try:
        q = positions_by_name(names, positions, arm.joints)
    except Refused as refused:
        fix = (
            f"name {what} as the driver does, and the URDF's joints too, or correct arms.{name}.states.topic"
        )
        yield Line(False, what, str(refused), fix)
        return
    beyond = [
        f"{joint} at {value:.4g}, outside [{low:g}, {high:g}]"
        for joint, value, (low, high) in zip(arm.joints, q.tolist(), arm.limits.position, strict=True)
        if not low - _BEYOND <= value <= high + _BEYOND
    ]
    if not beyond:
        yield Line(True, what, f"all {len(q)}, within arms.{name}.limits.position")
    elif np.abs(q).max() > 2 * math.pi:
        fix = (
            "the driver publishes no radians (degrees?): have it publish sensor_msgs/JointState in rad and m"
        )
        yield Line(False, what, "; ".join(beyond), fix)
    else:
        fix = (
            "bring the arm inside its limits, or correct them; where the values fit other joints, the "
            "driver's "
            "names are in another order than its positions"
        )
        yield Line(False, what, "; ".join(beyond), fix)


def gripper_line(name: str, gripper: Gripper, names: Sequence[str], positions: Sequence[float]) -> Line:
    """Whether the gripper reads within what the YAML says it reads."""
    what, key = f"arms.{name}.gripper.joints", f"arms.{name}.gripper"
    try:
        reading = float(positions_by_name(names, positions, gripper.joints).sum())
    except Refused as refused:
        return Line(False, what, str(refused), f"name {what} as the driver does")
    said = gripper.reads or gripper.width
    slack = _BEYOND_TRAVEL * abs(said[1] - said[0])
    where = (
        f"reads {reading:.4g}, {key}.{'reads' if gripper.reads else 'width'} is [{said[0]:g}, {said[1]:g}]"
    )
    if min(said) - slack <= reading <= max(said) + slack:
        return Line(True, what, where)
    fix = f"write {key}.reads: [what the joints sum up to when closed, and when open], in the driver's unit"
    return Line(False, what, where, fix)


def odometry_line(base: MobileBase, velocity: Sequence[float]) -> Line:
    """Whether the velocity (forward m/s, turning rad/s) in the odometry is one that the base may have."""
    what, found = "base.odometry velocity", f"{velocity[0]:.3f} m/s, {velocity[1]:.3f} rad/s"
    most = base.limits.velocity
    if all(abs(value) <= limit for value, limit in zip(velocity, most, strict=True)):
        return Line(True, what, found)
    fix = (
        "bring the base to a stand; where it stands, have its driver publish m/s along x and rad/s about z "
        "(not mm/s, degrees/s)"
    )
    return Line(False, what, f"{found}, base.limits.velocity is [{most[0]:g}, {most[1]:g}]", fix)


def image_line(name: str, camera: Camera, width: int, height: int) -> Line:
    """Whether an image has the size that the YAML says."""
    what, found = f"cameras.{name}", f"{width}×{height}"
    if (width, height) == (camera.width, camera.height):
        return Line(True, what, found)
    fix = f"write width: {width} and height: {height}, or have the camera send {camera.width}×{camera.height}"
    return Line(False, what, found, fix)


def pose_lines(
    robot: Robot, measured: Mapping[str, FloatArray], published: Mapping[str, FloatArray]
) -> Iterator[Line]:
    """Forward kinematics of the measured joints against what the drivers publish as the tool's pose.

    measured, published: {arm: 4x4, tool in base frame}. An arm whose pose is where another arm's joints put
    its tool is measured in the other's namespace.
    """
    for name, mine in measured.items():
        pose, arm = published.get(name), robot.arms[name]
        if pose is None or arm.published_pose is None:
            continue
        what = f"arms.{name} kinematics against {arm.published_pose.topic}"
        distance, angle = _apart(mine, pose)
        found = f"{distance * 1000:.0f} mm and {math.degrees(angle):.0f} deg apart"
        others = [other for other in measured if other != name]
        if distance <= _NEAR_M and angle <= _NEAR_RAD:
            same = [other for other in others if other in published and _near(published[other], mine)]
            note = (
                f"; arm '{same[0]}' is in the same posture: move one, so that swapped arms show"
                if same
                else ""
            )
            yield Line(None if same else True, what, found + note)
            continue
        swapped = [other for other in others if _near(measured[other], pose)]
        if swapped:
            found += f"; it fits the joint states of arm '{swapped[0]}'"
            fix = (
                f"the two arms are swapped: swap arms.{name}.states.topic and "
                f"arms.{swapped[0]}.states.topic, "
                "or their published_pose"
            )
        else:
            fix = (
                f"check arms.{name}.tool_frame and base_frame against what the driver means, the driver's "
                "joint "
                "names against its positions, and its units"
            )
        yield Line(False, what, found, fix)


def _apart(one: FloatArray, other: FloatArray) -> tuple[float, float]:
    """Distance in m and angle in rad between two poses."""
    turn = Rotation.from_matrix(one[:3, :3].T @ other[:3, :3]).magnitude()
    return float(np.linalg.norm(one[:3, 3] - other[:3, 3])), float(turn)


def _near(one: FloatArray, other: FloatArray) -> bool:
    distance, angle = _apart(one, other)
    return distance <= _NEAR_M and angle <= _NEAR_RAD
