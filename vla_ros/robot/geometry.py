"""How far an arm's links are from forbidden boxes and from another arm's links.

A link is a capsule: a line from its joint's origin to the next joint's, with the arm's `link_radius` around
it. The last line runs from the last joint to the tip frame (the tool frame, if none is named) and ends one
radius before it, so that the capsule's round cap ends there: tools have to touch things. What lies before the
first joint does not move; it counts against another arm's links, and not against boxes, which may well hold
it (a table).

All in the robot's common frame, in which `base_pose` places each arm's base frame. Distances are in m,
negative inside one another; they come from coal, placed by pinocchio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from vla_ros.robot.config import Arm, Box, Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

try:
    import coal
except ImportError:  # its older name, in ROS distributions whose pinocchio was built with that
    import hppfcl as coal

# Origins nearer than this make no line: the neighbouring capsules' caps cover them.
SHORTEST = 1e-3


@dataclass(frozen=True)
class Rule:
    """Links that are to stay at least `distance` m from something.

    kind: "forbidden" (boxes) or "arm_distance" (another arm); arms: whose links. reach: float64 [J], m of
    travel of any of these links' points per rad (or m) of each joint, at most; J counts `arms` in order.
    """

    kind: str
    arms: tuple[str, ...]
    distance: float
    reach: FloatArray
    model: pin.GeometryModel
    data: pin.GeometryData


class Geometry:
    """Links, boxes and the rules between them for all arms of a robot. Not thread-safe.

    kinematics: {arm: its kinematics}. rules: one per arm where there are forbidden boxes, one per pair of
    arms.
    """

    def __init__(self, robot: Robot, kinematics: Mapping[str, Kinematics]) -> None:
        self._model = pin.Model()
        links: dict[str, list[pin.GeometryObject]] = {}
        mounts: dict[str, list[pin.GeometryObject]] = {}
        reach: dict[str, FloatArray] = {}
        self._order: dict[str, NDArray[np.intp]] = {}
        if robot.safety.forbidden or len(robot.arms) > 1:
            for name, arm in robot.arms.items():
                chain = _Chain(self._model, name, arm, kinematics[name])
                links[name], mounts[name], reach[name] = chain.links, chain.mount, chain.reach
                self._order[name] = chain.order
        self._data = self._model.createData()
        self._q = np.zeros(self._model.nq)
        boxes = [_box(index, box) for index, box in enumerate(robot.safety.forbidden)]
        self.rules: tuple[Rule, ...] = (
            *(
                self._rule("forbidden", (name,), 0.0, reach[name], links[name], boxes)
                for name in links
                if boxes
            ),
            *(
                self._rule(
                    "arm_distance",
                    (one, other),
                    robot.safety.arm_distance,
                    np.concatenate([reach[one], reach[other]]),
                    [*mounts[one], *links[one]],
                    [*mounts[other], *links[other]],
                )
                for one, other in combinations(links, 2)
            ),
        )

    def distance(self, rule: Rule, q: FloatArray) -> float:
        """The least distance of the rule's links from what they are to keep away from, m.

        q: the joints of the rule's arms one after another, float64 [J].
        """
        begin = 0
        for name in rule.arms:
            order = self._order[name]
            self._q[order] = q[begin : begin + len(order)]
            begin += len(order)
        pin.forwardKinematics(self._model, self._data, self._q)
        pin.updateGeometryPlacements(self._model, self._data, rule.model, rule.data)
        nearest = pin.computeDistances(rule.model, rule.data)
        return float(rule.data.distanceResults[nearest].min_distance)

    def _rule(
        self,
        kind: str,
        arms: tuple[str, ...],
        distance: float,
        reach: FloatArray,
        ours: Sequence[pin.GeometryObject],
        theirs: Sequence[pin.GeometryObject],
    ) -> Rule:
        model = pin.GeometryModel()
        mine = [model.addGeometryObject(part) for part in ours]
        others = [model.addGeometryObject(part) for part in theirs]
        for one in mine:
            for other in others:
                model.addCollisionPair(pin.CollisionPair(one, other))
        return Rule(kind, arms, distance, reach, model, model.createData())


class _Chain:
    """One arm's joints, added to the common model, and the capsules between them."""

    def __init__(self, model: pin.Model, name: str, arm: Arm, kinematics: Kinematics) -> None:
        assert arm.link_radius is not None  # checked where the YAML is read
        radius = arm.link_radius
        source = kinematics.model
        tip = kinematics.tool if arm.tip_frame is None else source.getFrameId(arm.tip_frame)
        base = source.frames[kinematics.base].placement
        pose = pin.SE3(pin.rpy.rpyToMatrix(*arm.base_pose.rpy), np.array(arm.base_pose.position))
        root = pose * base.inverse()
        # The kinematics' joints form one chain, in this order.
        ids: list[int] = []
        for index in range(1, source.njoints):
            placement = source.jointPlacements[index]
            parent = ids[source.parents[index] - 1] if source.parents[index] else 0
            ids.append(
                model.addJoint(
                    parent,
                    source.joints[index],
                    placement if parent else root * placement,
                    f"{name}/{source.names[index]}",
                )
            )
        # Of the common model's q, in the YAML's order of joints.
        self.order = np.array(
            [model.joints[model.getJointId(f"{name}/{j}")].idx_q for j in kinematics.joints]
        )
        # Where each joint's line ends, in that joint's own frame.
        ends = [np.array(source.jointPlacements[index].translation) for index in range(2, source.njoints)]
        ends.append(np.array(source.frames[tip].placement.translation))
        self.links = list(self._lines(name, ids, ends, radius))
        first = root * source.jointPlacements[1]
        self.mount = list(_capsule(f"{name}/mount", 0, pose.translation, first.translation, radius))
        # Of any point: the tip's, and the radius around it; a joint that slides takes all along by the same.
        turns = [
            "JointModelP" not in source.joints[source.getJointId(j)].shortname() for j in kinematics.joints
        ]
        self.reach = kinematics.reach_of(tip) + np.where(turns, radius, 0.0)

    @staticmethod
    def _lines(
        name: str, ids: Sequence[int], ends: Sequence[FloatArray], radius: float
    ) -> Iterator[pin.GeometryObject]:
        start = np.zeros(3)
        for number, (joint, end) in enumerate(zip(ids, ends, strict=True), 1):
            length = float(np.linalg.norm(end))
            if number == len(ids):
                # A tool shorter than the radius is covered by the cap around the last joint.
                end = end * max(0.0, 1.0 - radius / max(length, SHORTEST))
                yield from _capsule(f"{name}/link{number}", joint, start, end, radius, always=True)
            else:
                yield from _capsule(f"{name}/link{number}", joint, start, end, radius)


def _capsule(
    name: str, joint: int, start: FloatArray, end: FloatArray, radius: float, always: bool = False
) -> Iterator[pin.GeometryObject]:
    """The capsule around a line in a joint's frame; none for a point, unless `always`."""
    way = end - start
    length = float(np.linalg.norm(way))
    if length < SHORTEST:
        if always:
            yield pin.GeometryObject(name, joint, pin.SE3(np.eye(3), start), coal.Sphere(radius))
        return
    # coal's capsule lies along z, around its middle.
    rotation = pin.Quaternion.FromTwoVectors(np.array([0.0, 0.0, 1.0]), way / length).matrix()
    middle = pin.SE3(rotation, (start + end) / 2)
    yield pin.GeometryObject(name, joint, middle, coal.Capsule(radius, length))


def _box(index: int, box: Box) -> pin.GeometryObject:
    low, high = np.array(box.min), np.array(box.max)
    placement = pin.SE3(np.eye(3), (low + high) / 2)
    return pin.GeometryObject(f"forbidden{index}", 0, placement, coal.Box(*(high - low)))
