"""How fast a base moves: from nav_msgs/Odometry to base/velocity of an observation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.mobile_base import BASE_STATE, MOBILE, mobile_fields
from tests.observation.feed import FRANKA, KINEMATICS, PICTURE, Feed, at
from tests.observation.messages import joint_state, odometry
from tests.observation.test_proprioception import POSE, manifest, state_of
from tests.tiny_bundle import manifest_fields
from vla_ros.errors import ContractError, Refused
from vla_ros.observation.buffers import ObservationBuffers
from vla_ros.observation.decode import decode_odometry
from vla_ros.observation.history import assemble_window
from vla_ros.observation.proprioception import at_training_speed, with_predicted_state
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_inputs import History
from vla_ros.robot.channels import BASE_CHANNELS
from vla_ros.robot.config import Robot
from vla_ros.types import ActionChunk, Observation


class BaseFeed(Feed):
    """With the odometry of a base at 20 Hz."""

    def __init__(self, robot: Robot = MOBILE, past_s: float = 0.0, told: bool = True) -> None:
        super().__init__(robot, past_s)
        self.buffers = ObservationBuffers(robot, ["front", "wrist"], past_s, base_velocity=told)

    def odometry(self, ms: float, forward: float, turning: float = 0.0) -> None:
        self.buffers.base_odometry(odometry(at(ms), forward, turning), self.now_ns(ms))


def test_the_velocity_is_that_of_the_message() -> None:
    sample = decode_odometry(odometry(at(3), 0.25, -0.5))
    assert sample.stamp_ns == at(3)
    assert sample.velocity.tolist() == [0.25, -0.5]
    with pytest.raises(Refused, match=r"no nav_msgs/msg/Odometry"):
        decode_odometry(joint_state(at(0), ["a"], [0.0]))


def test_the_last_velocity_before_the_images_is_held() -> None:
    """Neither interpolated to the images, which are newer than any odometry, nor carried on."""
    feed = BaseFeed().all(0)
    feed.odometry(-70, 0.1, 0.4)
    feed.odometry(-20, 0.2, 0.3)
    feed.odometry(30, 0.3, 0.2)
    seen = feed.see()
    assert seen.state["base/velocity"].tolist() == [0.2, 0.3]
    assert seen.stamps_ns["base/odometry"] == at(-20)


def test_a_policy_that_is_not_told_needs_no_odometry() -> None:
    feed = BaseFeed(told=False).all(0)
    assert "base/velocity" not in feed.see().state
    feed.odometry(-300, 0.1)
    assert "base/velocity" not in feed.see().state
    feed.odometry(0, math.nan)
    feed.see()
    with pytest.raises(KeyError, match="robot 'franka' has no base"):
        Feed().buffers.base_odometry(odometry(at(0), 0.0, 0.0), at(0))


def test_without_a_base_nobody_can_be_told() -> None:
    with pytest.raises(ContractError, match="robot 'franka' has none"):
        ObservationBuffers(FRANKA, ["front"], base_velocity=True)


def test_missing_odometry_is_incomplete() -> None:
    refused = BaseFeed().all(0).refusal()
    assert refused.reason == "incomplete"
    assert "base/odometry: nothing received on /mobile_base/odom" in str(refused)


def test_odometry_only_from_after_the_images_is_incomplete() -> None:
    feed = BaseFeed().all(0)
    feed.odometry(10, 0.1)
    assert str(feed.refusal()) == "base/odometry: nothing from before the images yet"


def test_stale_odometry_is_refused() -> None:
    feed = BaseFeed()
    feed.odometry(-170, 0.5)
    feed.all(0)
    assert feed.see(30).state["base/velocity"].tolist() == [0.5, 0.0]
    refused = feed.refusal(31)
    assert refused.reason == "stale"
    assert "base/odometry: newest sample on /mobile_base/odom is 201 ms old" in str(refused)


def test_odometry_that_was_stale_at_the_images_time_is_refused_though_it_came_back() -> None:
    feed = BaseFeed()
    feed.odometry(-210, 0.5)
    feed.all(0)
    feed.odometry(35, 0.0)
    refused = feed.refusal()
    assert refused.reason == "stale"
    assert "older than they are by 210 ms, at most 200 ms" in str(refused)


@pytest.mark.parametrize(("forward", "turning"), [(math.nan, 0.0), (0.0, math.inf)])
def test_a_velocity_that_is_no_number_is_refused(forward: float, turning: float) -> None:
    feed = BaseFeed().all(0)
    feed.odometry(-10, 0.1)
    feed.odometry(20, forward, turning)
    refused = feed.refusal()
    assert refused.reason == "nan"
    assert "base/odometry: on /mobile_base/odom: the base's velocity is not finite" in str(refused)
    feed.odometry(30, 0.1)
    assert feed.see().state["base/velocity"].tolist() == [0.1, 0.0]


def test_a_driver_s_own_clock_may_be_left_aside() -> None:
    fields = mobile_fields()
    fields["base"] = {**fields["base"], "odometry": {**fields["base"]["odometry"], "stamps": "arrival"}}
    feed = BaseFeed(Robot.model_validate(fields)).all(0)
    feed.buffers.base_odometry(odometry(5, 0.7, 0.0), at(-5))
    seen = feed.see()
    assert seen.state["base/velocity"].tolist() == [0.7, 0.0]
    assert seen.stamps_ns["base/odometry"] == at(-5)


def test_a_window_has_the_velocity_of_each_time() -> None:
    wanted = History(frames=3, stride_s=0.1, of=["images", "state"], before="refuse")
    feed = BaseFeed(past_s=wanted.past_s)
    for ms in range(-60, 360, 10):
        feed.joints(ms)
    for ms in range(-60, 310, 50):
        feed.gripper(ms)
        feed.odometry(ms, ms / 1000)
        if ms >= -10:
            feed.image("front", ms + 10, np.roll(PICTURE, ms))
            feed.image("wrist", ms + 10, np.roll(PICTURE, ms))
    found = assemble_window(feed.buffers, MOBILE, at(320), "lift it", KINEMATICS, wanted, at(-1000))
    assert [seen.stamp_ns for seen in found.observations] == [at(100), at(200), at(300)]
    velocities = [seen.state["base/velocity"][0] for seen in found.observations]
    assert velocities == pytest.approx([0.09, 0.19, 0.29])


def test_forgetting_forgets_odometry_too() -> None:
    feed = BaseFeed().all(0)
    feed.odometry(-10, 0.1)
    assert feed.see().state["base/velocity"].dtype == np.float64
    feed.buffers.reset()
    assert not feed.buffers.rings["base/odometry"].samples


# --- what the policy is told of it ----------------------------------------------------------------------


def test_a_base_s_velocity_stands_where_the_manifest_has_it() -> None:
    """Mobile ALOHA's 16 values for one arm: joints, gripper, base_vel."""
    parts = [
        {"arm": "arm", "signal": "joint_position", "size": 6},
        {"arm": "arm", "signal": "gripper", "size": 1, "gripper": {"unit": "width_m"}},
        BASE_STATE,
        {"signal": "padding", "size": 2},
    ]
    seen = Observation({}, {**POSE.state, "base/velocity": np.array([0.3, -0.7])}, "", {}, 10**18)
    assert state_of(parts, seen)[6:] == [0.03, 0.3, -0.7, 0, 0]
    assert manifest(parts).inputs.state_is_real.tolist() == [True] * 9 + [False] * 2
    with pytest.raises(Refused, match="holds no base/velocity, which the policy needs"):
        state_of(parts, POSE)


def test_a_base_s_last_prediction_is_fed_back_too() -> None:
    rows = ActionChunk(BASE_CHANNELS, np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([10, 20]), 0)
    seen = Observation({}, {"base/velocity": np.zeros(2)}, "", {}, 20)
    assert with_predicted_state(seen, rows).state["base/velocity"].tolist() == [0.3, 0.4]


@pytest.mark.parametrize("speed", [0.25, 1.0, 2.0])
def test_a_slowed_policy_sees_the_velocity_that_it_asked_for(speed: float) -> None:
    """Measured or fed back, a base that obeys moves as the policy said, as it did in training."""
    asked = np.array([0.4, -0.8])
    rows = ActionChunk(BASE_CHANNELS, asked[None] * speed, np.array([10]), 0)
    for before in (
        Observation({}, {**POSE.state, "base/velocity": asked * speed}, "", {}, 20),
        with_predicted_state(Observation({}, {**POSE.state, "base/velocity": np.zeros(2)}, "", {}, 20), rows),
    ):
        seen = at_training_speed(before, speed)
        assert seen.state["base/velocity"] == pytest.approx(asked)
        assert before.state["base/velocity"] == pytest.approx(asked * speed)
        assert all(seen.state[group] is before.state[group] for group in POSE.state)
    assert at_training_speed(POSE, speed) is POSE


def test_a_base_s_velocity_that_is_not_predicted_cannot_be_fed_back() -> None:
    inputs = {**manifest_fields()["inputs"], "state": [BASE_STATE], "proprioception": "last_prediction"}
    with pytest.raises(ValueError, match=r"proprioception: base_velocity is not predicted"):
        Manifest.model_validate({**manifest_fields(), "sha256": {}, "inputs": inputs})
