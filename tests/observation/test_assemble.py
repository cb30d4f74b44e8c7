from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.observation.feed import FINGERS, FRANKA, HOME, JOINTS, KINEMATICS, PICTURE, T0, Feed, at
from tests.observation.messages import compressed, compressed_bytes, image, joint_state
from tests.tiny_bundle import franka_fields
from vla_ros.errors import Refused
from vla_ros.observation.assemble import newest_stamp
from vla_ros.observation.buffers import ObservationBuffers
from vla_ros.observation.ring import MS
from vla_ros.robot.config import Robot


def test_a_complete_observation() -> None:
    seen = Feed().all().see()
    assert seen.stamp_ns == T0
    assert seen.prompt == "lift it"
    assert np.array_equal(seen.images["wrist"], PICTURE)
    assert seen.state["arm/joint_position"] == pytest.approx(HOME)
    pose = KINEMATICS["arm"].forward(HOME)
    assert seen.state["arm/tcp_pose"][:3] == pytest.approx(pose[:3, 3])
    found = Rotation.from_quat(seen.state["arm/tcp_pose"][3:]).as_matrix()
    assert found == pytest.approx(pose[:3, :3], abs=1e-9)
    assert seen.state["arm/gripper"] == pytest.approx([0.08])
    assert seen.stamps_ns == {
        "camera/front": T0,
        "camera/wrist": T0,
        "arm/joint_states": T0,
        "arm/gripper_states": at(-20),
    }


def test_images_are_views_of_the_message() -> None:
    feed = Feed().all()
    cdr = image(at(33), PICTURE, "bgr8")
    other = ObservationBuffers(FRANKA, ["front"])
    other.image("front", cdr, at(33))
    assert np.shares_memory(other.cameras["front"].samples[-1][1].rgb(), np.frombuffer(cdr, np.uint8))
    assert not feed.see().images["front"].flags.writeable


# --- time alignment -------------------------------------------------------------------------------


def test_the_stamp_is_the_newest_time_that_both_cameras_have_reached() -> None:
    feed = Feed().all(0, joints_until=80)
    feed.image("front", 33, PICTURE // 2)
    assert feed.see(60).stamp_ns == at(0)
    assert np.array_equal(feed.see(60).images["front"], PICTURE)
    feed.image("wrist", 31)
    seen = feed.see(60)
    assert seen.stamp_ns == at(31)
    assert seen.stamps_ns["camera/front"] == at(33)


@settings(max_examples=60, deadline=None)
@given(
    front=st.lists(st.integers(0, 150), min_size=1, max_size=6, unique=True),
    wrist=st.lists(st.integers(0, 150), min_size=1, max_size=6, unique=True),
)
def test_the_frames_chosen_are_the_best_pair_with_the_newest_common_time(front: list, wrist: list) -> None:
    feed = Feed().all(-10, joints_until=160)
    small = PICTURE
    for name, times in (("front", front), ("wrist", wrist)):
        for ms in sorted(times):
            feed.image(name, ms, small)
    kept = {"front": sorted([-10, *front])[-4:], "wrist": sorted([-10, *wrist])[-4:]}
    common = min(kept["front"][-1], kept["wrist"][-1])
    far = {name: min(abs(ms - common) for ms in times) for name, times in kept.items()}
    if max(far.values()) > FRANKA.observation.max_skew_ms:
        assert feed.refusal(160).reason == "skew"
        return
    seen = feed.see(160)
    assert seen.stamp_ns == at(common)
    for name in kept:
        assert abs(seen.stamps_ns[f"camera/{name}"] - at(common)) == far[name] * MS


@settings(max_examples=50, deadline=None)
@given(ms=st.floats(-40, 25))
def test_joints_are_interpolated_to_the_stamp(ms: float) -> None:
    feed = Feed()
    slope = np.linspace(-1, 1, 7) / 1000
    for time in range(-50, 40, 10):
        feed.joints(time, HOME + slope * time)
    feed.gripper(-50)
    feed.image("front", ms)
    feed.image("wrist", ms)
    assert feed.see(40).state["arm/joint_position"] == pytest.approx(HOME + slope * ms, abs=1e-9)


def test_joints_a_little_behind_the_images_carry_on_along_their_slope() -> None:
    feed = Feed()
    slope = np.full(7, 0.001)
    for time in range(-60, -7, 1):
        feed.joints(time, HOME + slope * time)
    feed.gripper(-20)
    feed.image("front", 0)
    feed.image("wrist", 0)
    assert feed.see(5).state["arm/joint_position"] == pytest.approx(HOME, abs=1e-9)


def test_joints_further_behind_the_images_are_refused() -> None:
    refusal = Feed().all(0, joints_until=-20).refusal(20)
    assert refusal.reason == "skew"
    assert "arm/joint_states: newest sample is 20 ms older than the images" in str(refusal)


def test_a_hole_in_the_joint_states_is_not_bridged() -> None:
    feed = Feed()
    for time in (-200, -190, -100, 70, 80):
        feed.joints(time)
    feed.gripper(-20)
    feed.image("front", 0)
    feed.image("wrist", 0)
    assert feed.refusal(90).reason == "skew"


def test_the_gripper_is_its_last_width_before_the_images() -> None:
    feed = Feed().all()
    feed.gripper(-5, 0.05)
    feed.gripper(10, 0.01)
    assert feed.see().state["arm/gripper"] == pytest.approx([0.05])


def test_states_only_from_after_the_images_are_incomplete() -> None:
    feed = Feed()
    for time in (10, 20, 30):
        feed.joints(time)
    feed.gripper(-20)
    feed.image("front", 0)
    feed.image("wrist", 0)
    assert feed.refusal().reason == "incomplete"
    feed = Feed().all()
    feed.buffers.grippers["arm"].clear()
    feed.gripper(10)
    assert feed.refusal().reason == "incomplete"


def test_cameras_too_far_apart_are_refused() -> None:
    feed = Feed().all(0, joints_until=110)
    feed.buffers.cameras["wrist"].clear()
    feed.image("wrist", 70)
    refusal = feed.refusal(100)
    assert refusal.reason == "skew"
    assert "camera/wrist: its nearest sample lies 70 ms" in str(refusal)
    assert "observation.max_skew_ms" in str(refusal)


# --- streams that go wrong ------------------------------------------------------------------------


@pytest.mark.parametrize("ring", ["camera/front", "camera/wrist", "arm/joint_states", "arm/gripper_states"])
def test_a_stream_that_never_came_is_named_with_its_topic(ring: str) -> None:
    feed = Feed().all()
    feed.buffers.rings[ring].clear()
    refusal = feed.refusal()
    assert refusal.reason == "incomplete"
    assert ring in str(refusal)
    assert feed.buffers.rings[ring].topic in str(refusal)


@pytest.mark.parametrize(
    ("ring", "age"),
    [("camera/front", 200), ("camera/wrist", 200), ("arm/joint_states", 50), ("arm/gripper_states", 250)],
)
def test_a_stream_that_stopped_is_stale_from_its_max_age_on(ring: str, age: float) -> None:
    feed = Feed().all()
    watched = feed.buffers.rings[ring]
    newest = (watched.samples[-1][0] - T0) / MS
    watched.check(at(newest + age))
    with pytest.raises(Refused) as caught:
        watched.check(at(newest + age + 0.001))
    assert caught.value.reason == "stale"
    feed.all(newest + age + 30)
    feed.see(newest + age + 70)


def test_the_observation_is_refused_when_a_camera_stopped() -> None:
    feed = Feed().all()
    for time in range(33, 264, 33):
        feed.image("front", time)
    for time in range(30, 270, 10):
        feed.joints(time)
    feed.gripper(200)
    refusal = feed.refusal(265)
    assert refusal.reason == "stale"
    assert "camera/wrist" in str(refusal)


def test_a_frozen_camera_is_called_frozen() -> None:
    feed = Feed().all()
    for _ in range(9):
        feed.image("wrist", 0)
    assert feed.buffers.cameras["wrist"].dropped["frozen"] == 9
    assert len(feed.buffers.cameras["wrist"].samples) == 1
    feed.see(40)
    feed.image("front", 100)
    refusal = feed.refusal(201)
    assert refusal.reason == "frozen"
    assert "repeats one stamp (9 times)" in str(refusal)
    feed.all(300)
    feed.see(330)


def test_frames_that_would_have_come_in_between_are_counted() -> None:
    feed = Feed()
    for time in (0, 33, 67, 133, 166, 300):
        feed.image("front", time)
    assert feed.buffers.cameras["front"].missed == 4
    feed.image("front", -9_000)
    feed.image("front", -8_967)
    assert feed.buffers.cameras["front"].missed == 4


def test_a_late_frame_is_dropped_and_counted() -> None:
    feed = Feed().all()
    feed.image("wrist", -30)
    assert feed.buffers.cameras["wrist"].dropped["back_in_time"] == 1
    assert feed.see().stamp_ns == T0


def test_a_camera_that_jumps_back_in_time_is_refused() -> None:
    feed = Feed().all()
    for time in range(33, 250, 33):
        feed.image("wrist", time - 10_000)
        feed.image("front", time)
    for time in range(30, 250, 10):
        feed.joints(time)
    refusal = feed.refusal(240)
    assert refusal.reason == "back_in_time"
    assert "by 9769 ms" in str(refusal)


def test_a_stream_whose_clock_was_ahead_recovers_when_it_is_set_right() -> None:
    feed = Feed().all()
    feed.image("wrist", 60_000)
    refusal = feed.refusal()
    assert refusal.reason == "future"
    assert "synchronise the clocks" in str(refusal)
    assert feed.refusal().reason == "future"
    feed.image("wrist", 1)
    assert feed.see().stamps_ns["camera/wrist"] == at(0)
    assert feed.buffers.cameras["wrist"].dropped == {"future": 1}


def test_time_that_starts_again_is_followed() -> None:
    """A simulation restarted under use_sim_time: every stream and the clock go back together."""
    feed = Feed().all(100_000)
    feed.see(100_040)
    feed.latest = 0
    feed.all(0)
    feed.see(40)


def test_a_message_without_stamp_is_refused() -> None:
    feed = Feed().all()
    feed.buffers.image("wrist", image(0, PICTURE), at(40))
    refusal = feed.refusal()
    assert refusal.reason == "no_stamp"
    assert "/wrist/color/image_raw" in str(refusal)


@pytest.mark.parametrize("shape", [(720, 1280, 3), (480, 639, 3), (640, 480, 3)])
def test_another_image_size_is_refused_until_it_is_right_again(shape: tuple[int, ...]) -> None:
    feed = Feed().all()
    feed.image("front", 20, np.zeros(shape, np.uint8))
    refusal = feed.refusal()
    assert refusal.reason == "changed_size"
    assert f"camera/front: {shape[1]}x{shape[0]} on /front/color/image_raw" in str(refusal)
    assert "640x480" in str(refusal)
    feed.image("front", 30)
    feed.see()


def test_another_encoding_is_refused_until_reset() -> None:
    feed = Feed().all()
    feed.image("front", 20, PICTURE, "bgr8")
    refusal = feed.refusal()
    assert refusal.reason == "changed_encoding"
    assert "from 'rgb8' to 'bgr8'; call policy_node/reset" in str(refusal)
    feed.buffers.reset()
    assert feed.refusal().reason == "incomplete"
    feed.all()
    feed.image("front", 20, PICTURE, "rgb8")
    feed.buffers.reset()
    feed.all(100)
    feed.see(140)


def test_an_encoding_that_is_no_picture_is_refused() -> None:
    feed = Feed().all()
    feed.image("front", 20, np.zeros((480, 640, 2), np.uint8), "16UC1")
    assert feed.refusal().reason == "unsupported_encoding"


# --- joints by name -------------------------------------------------------------------------------


def test_reordered_joint_names_give_the_same_observation() -> None:
    feed = Feed().all()
    straight = feed.see().state["arm/joint_position"]
    feed.buffers.joints["arm"].clear()
    order = [6, 0, 3, 2, 5, 1, 4]
    for time in range(-50, 40, 10):
        cdr = joint_state(at(time), ["extra", *(JOINTS[i] for i in order)], [9.0, *HOME[order]])
        feed.buffers.joint_states("arm", cdr, at(40))
    assert feed.see().state["arm/joint_position"] == pytest.approx(straight)


def expect_joint_fault(send: Callable[[Feed], None], reason: str, text: str) -> None:
    feed = Feed().all()
    send(feed)
    refusal = feed.refusal()
    assert refusal.reason == reason
    assert text in str(refusal)
    feed.all(34)
    feed.see(60)


def test_a_missing_joint_is_refused_and_named() -> None:
    cdr = joint_state(at(31), JOINTS[:6], HOME[:6])
    expect_joint_fault(
        lambda feed: feed.buffers.joint_states("arm", cdr, at(40)),
        "missing_joint",
        "arm/joint_states: on /franka_robot_state_broadcaster/measured_joint_states: "
        "joint state lacks ['fr3_joint7']",
    )


def test_a_missing_finger_is_refused_and_named() -> None:
    cdr = joint_state(at(31), FINGERS[:1], [0.04])
    expect_joint_fault(
        lambda feed: feed.buffers.gripper_states("arm", cdr, at(40)), "missing_joint", "fr3_finger_joint2"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_joint_that_is_not_finite_is_refused(value: float) -> None:
    cdr = joint_state(at(31), JOINTS, [*HOME[:6], value])
    expect_joint_fault(lambda feed: feed.buffers.joint_states("arm", cdr, at(40)), "nan", "fr3_joint7")


def test_other_joints_on_a_shared_topic_do_no_harm() -> None:
    feed = Feed().all()
    feed.buffers.joint_states("arm", joint_state(at(35), FINGERS, [0.04, 0.04]), at(40))
    feed.see()


def test_a_robot_whose_joints_have_other_names_is_told_so() -> None:
    feed = Feed().all()
    feed.buffers.joints["arm"].clear()
    other = [name.replace("fr3", "panda") for name in JOINTS]
    feed.buffers.joint_states("arm", joint_state(at(0), other, HOME), at(40))
    refusal = feed.refusal()
    assert refusal.reason == "missing_joint"
    assert "panda_joint1" in str(refusal)


def test_rubbish_bytes_are_refused() -> None:
    expect_joint_fault(
        lambda feed: feed.buffers.joint_states("arm", b"\0" * 9, at(40)), "undecodable", "JointState"
    )


# --- compressed cameras ---------------------------------------------------------------------------


def compressed_franka() -> Robot:
    fields = franka_fields()
    for camera in fields["cameras"].values():
        camera["transport"] = "compressed"
    return Robot.model_validate(fields)


def compressed_feed(front: bytes) -> Feed:
    feed = Feed(compressed_franka())
    for time in range(-50, 40, 10):
        feed.joints(time)
    feed.gripper(-20)
    feed.buffers.image("front", front, at(40))
    feed.buffers.image("wrist", compressed(at(0), PICTURE), at(40))
    return feed


def test_compressed_images() -> None:
    seen = compressed_feed(compressed(at(0), PICTURE)).see()
    assert np.array_equal(seen.images["front"], PICTURE)


def test_a_compressed_image_of_another_size() -> None:
    assert compressed_feed(compressed(at(0), PICTURE[:240])).refusal().reason == "changed_size"


def test_a_compressed_image_that_is_none() -> None:
    cdr = compressed_bytes(at(0), np.frombuffer(b"no image", np.uint8))
    assert compressed_feed(cdr).refusal().reason == "undecodable"


def test_a_compressed_image_of_another_format() -> None:
    feed = compressed_feed(compressed(at(0), PICTURE))
    feed.buffers.image("front", compressed(at(20), PICTURE, ".jpg", "jpeg"), at(40))
    assert feed.refusal().reason == "changed_encoding"


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_picture_that_never_changes_is_frozen_once_the_arm_moves(transport: str) -> None:
    front = image if transport == "raw" else compressed
    fields = franka_fields()
    fields["cameras"]["front"]["transport"] = transport
    feed = Feed(Robot.model_validate(fields))
    feed.all()

    def frames(begin: int, end: int, turned: float, picture: np.ndarray) -> None:
        for ms in range(begin, end, 10):
            feed.joints(ms, HOME + turned * (ms - begin) / (end - begin))
            if ms % 30 == 0:
                feed.gripper(ms)
                feed.buffers.image("front", front(at(ms), picture), feed.now_ns(ms))
                feed.image("wrist", ms, np.roll(PICTURE, ms))

    def see(ms: float) -> None:
        newest_stamp(feed.buffers, at(ms))

    # Nothing moves: a still scene. What it does at last need not be seen yet.
    for begin in range(30, 990, 240):
        frames(begin, begin + 240, 0.0, PICTURE)
        see(begin + 240)
    frames(990, 1040, 0.1, PICTURE)
    see(1040)
    frames(1040, 1140, 0.1, PICTURE)
    with pytest.raises(Refused, match="same picture on /front") as caught:
        see(1140)
    assert caught.value.reason == "frozen"
    # It stays so while the arm is held, until there is another picture: one pixel is enough.
    for begin in range(1140, 3540, 240):
        frames(begin, begin + 240, 0.0, PICTURE)
    feed.joints(3540, HOME + 0.1)
    frames(3550, 3790, 0.0, PICTURE)
    other = PICTURE.copy()
    other[-1, -1, -1] += 1
    frames(3790, 3840, 0.1, other)
    see(3840)


def test_joint_states_that_were_missing_when_a_picture_was_taken_do_not_make_it_frozen() -> None:
    feed = Feed()
    for ms in range(0, 600, 10):
        # The arm comes to rest while nothing is heard of it; the camera sees it at rest from then on.
        if not 200 <= ms < 400:
            feed.joints(ms, HOME + (0.1 if ms >= 400 else 0.0005 * ms))
        if ms % 30 == 0:
            feed.gripper(ms)
            for camera in ("front", "wrist"):
                feed.image(camera, ms, np.roll(PICTURE, min(ms, 270)))
        if ms > 410 and ms % 50 == 0:
            newest_stamp(feed.buffers, at(ms))


def test_a_glitch_of_an_encoder_is_no_motion_that_a_camera_should_have_seen() -> None:
    feed = Feed()
    refused = 0
    for ms in range(0, 1500, 10):
        feed.joints(ms, HOME + (1.0 if 500 <= ms < 900 else 0.0))
        if ms % 30 == 0:
            feed.gripper(ms)
            feed.image("front", ms)
            feed.image("wrist", ms)
        if ms > 60 and ms % 400 == 0:
            try:
                newest_stamp(feed.buffers, at(ms))
            except Refused:
                refused += 1
    assert refused == 0
