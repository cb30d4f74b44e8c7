from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.action.manifests import ARM, gripper_part, manifest, matrix, pose_parts, random_pose, robot
from vla_ros.action.convention import Origins
from vla_ros.action.decode import decode, due_times, encode, first_rows, to_targets, to_values
from vla_ros.action.last_targets import Asked
from vla_ros.action.normalise import Scaling, unscaled
from vla_ros.action.rotations import ROTATION_SIZES
from vla_ros.errors import ContractError, Refused
from vla_ros.policy.manifest_outputs import REFERENCES, TOOL_REFERENCES
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.types import ActionChunk, Observation, RawChunk

STAMP = 1_700_000_000_123_456_789
PLAIN = manifest([*pose_parts(), gripper_part()])
STILL = RawChunk(np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0, 1], (5, 1)).astype(np.float32))
ONE = robot("arm")


def observation(pose: np.ndarray | None, **state: np.ndarray) -> Observation:
    groups = {"arm/tcp_pose": pose} if pose is not None else {}
    groups |= {f"arm/{name}": values for name, values in state.items()}
    return Observation(images={}, state=groups, prompt="", stamps_ns={}, stamp_ns=STAMP)


def some_pose(seed: int = 0) -> np.ndarray:
    return random_pose(np.random.default_rng(seed))


def turned(first: np.ndarray, second: np.ndarray) -> float:
    """The largest angle between rows of quaternions, rad."""
    return float((Rotation.from_quat(first).inv() * Rotation.from_quat(second)).magnitude().max())


# --- every convention comes back ----------------------------------------------------------------------

GRIPPERS = [
    {"unit": "open_fraction"},
    {"unit": "closed_fraction", "binary": {"threshold": 0.4}},
    {"unit": "signed", "open_is": -1},
    {"unit": "signed", "open_is": 1, "binary": {"threshold": 0.0, "hysteresis": 0.2}},
    {"unit": "logit", "open_is": 1},
    {"unit": "width_m"},
    {"unit": "finger_m", "closed": 0.0, "open": 0.04},
    {"unit": "joint_rad", "closed": 0.8, "open": 0.0},
]
TOOL = list(itertools.product(REFERENCES["tcp_position"], TOOL_REFERENCES))


@pytest.mark.parametrize(("position", "rotation"), TOOL)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    form=st.sampled_from(sorted(ROTATION_SIZES)),
    rule=st.sampled_from(GRIPPERS),
    measured_base=st.booleans(),
    asked_before=st.booleans(),
    other_axes=st.booleans(),
)
def test_every_tool_convention_round_trips(
    position, rotation, seed, form, rule, measured_base, asked_before, other_axes
) -> None:
    rng = np.random.default_rng(seed)
    base = "measured" if measured_base and position != "bridge_delta" else "last_target"
    described = manifest(
        [
            {"signal": "padding", "size": 2},
            *pose_parts(position, rotation, form, ROTATION_SIZES[form], base=base),
            gripper_part(**rule),
        ],
        tool_rotations={"arm": Rotation.random(rng=rng).as_matrix().tolist()} if other_axes else {},
    )
    targets = np.array([random_pose(rng) for _ in range(5)])
    binary = "binary" in rule
    widths = rng.choice([0.0, 0.08], 5) if binary else rng.uniform(0.0, 0.08, 5)
    targets = np.column_stack([targets, widths])
    channels = (*tool_channels("arm"), gripper_channel("arm"))
    before = np.append(random_pose(rng), widths[0])
    asked = Asked(dict(zip(channels, before, strict=True)), {}) if asked_before else None
    origins = Origins({"arm/tcp_pose": random_pose(rng)}, asked, 0.1)
    values = to_values(targets, channels, described, ONE, origins)
    found, back = to_targets(values, described, ONE, origins)
    assert found == channels
    assert np.allclose(back[:, :3], targets[:, :3], rtol=0, atol=1e-9)
    assert turned(back[:, 3:7], targets[:, 3:7]) < 2e-8  # of quaternions, as the arccosine of 1 - 1e-16
    assert np.allclose(
        Rotation.from_quat(back[:, 3:7]).as_matrix(),
        Rotation.from_quat(targets[:, 3:7]).as_matrix(),
        rtol=0,
        atol=1e-9,
    )
    assert np.allclose(back[:, 7], widths, rtol=0, atol=1e-9)


JOINTS = [
    {"signal": "joint_position", "reference": "absolute"},
    {"signal": "joint_position", "reference": "relative"},
    {"signal": "joint_position", "reference": "relative", "mask": [True] * 5 + [False] * 2},
    {"signal": "joint_position", "reference": "relative", "delta_base": "last_target"},
    {"signal": "joint_position", "reference": "delta", "delta_base": "measured"},
    {"signal": "joint_position", "reference": "delta", "delta_base": "last_target"},
    {"signal": "joint_velocity", "delta_base": "measured"},
    {"signal": "joint_velocity", "delta_base": "last_target"},
]


@pytest.mark.parametrize("kind", JOINTS)
@given(seed=st.integers(0, 10**6), flipped=st.booleans(), asked_before=st.booleans())
@settings(max_examples=20, deadline=None)
def test_every_joint_convention_round_trips(kind, seed, flipped, asked_before) -> None:
    rng = np.random.default_rng(seed)
    signs = {"signs": [1, -1, -1, 1, 1, 1, 1]} if flipped else {}
    described = manifest([{"arm": "arm", "size": 7, **kind, **signs}])
    targets = rng.uniform(-np.pi, np.pi, (5, 7))
    channels = joint_channels("arm", 7)
    before = dict(zip(channels, rng.uniform(-3, 3, 7), strict=True))
    origins = Origins(
        {"arm/joint_position": rng.uniform(-3, 3, 7)}, Asked(before, {}) if asked_before else None, 0.02
    )
    values = to_values(targets, channels, described, ONE, origins)
    found, back = to_targets(values, described, ONE, origins)
    assert found == channels
    assert np.allclose(back, targets, rtol=0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), tool=st.sampled_from(TOOL))
def test_encode_then_decode_gives_the_same_targets(seed, tool) -> None:
    rng = np.random.default_rng(seed)
    described = manifest([*pose_parts(*tool), gripper_part()])
    start, poses = random_pose(rng), np.array([random_pose(rng) for _ in range(5)])
    widths = rng.choice([0.0, 0.08], 5)[:, None]
    channels = (*tool_channels("arm"), gripper_channel("arm"))
    chunk = ActionChunk(
        channels, np.hstack([poses, widths]), STAMP + np.arange(1, 6) * 100_000_000, stamp_ns=STAMP
    )
    low = rng.uniform(-1, 1, 10)
    scaling = Scaling(low, low + rng.uniform(0.5, 2, 10), np.array([True] * 9 + [False]))
    last = ActionChunk(
        channels,
        np.array([[*random_pose(rng), 0.08], [*random_pose(rng), 0.08]]),
        np.array([STAMP - 10**8, STAMP + 10**8]),
        STAMP - 3 * 10**8,
    )
    seen = observation(start)
    raw = encode(chunk, seen.state, described, scaling, ONE, last=last)
    assert raw.values.dtype == np.float32
    back = decode(raw, seen, described, scaling, ONE, last=last)
    assert back.channels == chunk.channels
    assert back.stamp_ns == STAMP
    assert back.due_ns.tolist() == chunk.due_ns.tolist()
    # float32 in between, and deltas add their errors up
    assert np.allclose(back.targets[:, :3], poses[:, :3], atol=1e-5)
    assert turned(back.targets[:, 3:7], poses[:, 3:]) < 1e-5
    assert back.targets[:, 7].tolist() == widths[:, 0].tolist()


# --- what actions refer to -----------------------------------------------------------------------------


def test_eef_relative_is_composed_on_the_pose_of_the_observation_exactly_once() -> None:
    start, step = some_pose(3), some_pose(4)
    T = matrix(step)
    row = np.concatenate([T[:3, 3], T[:3, 0], T[:3, 1], [1.0]])
    raw = RawChunk(np.tile(row, (5, 1)))
    targets = decode(raw, observation(start), PLAIN, unscaled(10), ONE).targets
    expected = matrix(start) @ T
    assert np.allclose(targets[:, :3], expected[:3, 3], atol=1e-9)
    # Not chained from row to row: every row refers to the pose at the chunk's start.
    assert np.allclose(targets, targets[0])
    assert np.allclose(Rotation.from_quat(targets[0, 3:7]).as_matrix(), expected[:3, :3], atol=1e-9)


def euler_deltas(base: str) -> tuple[RawChunk, object]:
    """Five rows of 1 cm forwards and 0.2 rad of roll and yaw."""
    described = manifest([*pose_parts("world_delta", "world_delta", "euler_xyz", 3, base=base)])
    return RawChunk(np.tile([0.01, 0, 0, 0.2, 0, 0.2], (5, 1))), described


def test_deltas_compose_on_the_last_target_and_not_on_the_measured_pose() -> None:
    """Bridge: an arm that lags behind is not asked for less."""
    measured, asked = some_pose(1), some_pose(2)
    last = ActionChunk(tool_channels("arm"), asked[None], np.array([STAMP]), STAMP - 10**8)
    for base, expected in (("last_target", asked), ("measured", measured)):
        raw, described = euler_deltas(base)
        targets = decode(raw, observation(measured), described, unscaled(6), ONE, last=last).targets
        assert np.allclose(targets[:, :3], expected[:3] + np.outer(np.arange(1, 6), [0.01, 0, 0]))
        step = Rotation.from_euler("xyz", [0.2, 0, 0.2])
        assert turned(targets[:1, 3:], (step * Rotation.from_quat(expected[3:])).as_quat()[None]) < 1e-7


def test_without_a_last_target_deltas_start_from_the_measured_pose() -> None:
    measured = some_pose(1)
    raw, described = euler_deltas("last_target")
    targets = decode(raw, observation(measured), described, unscaled(6), ONE).targets
    assert np.allclose(targets[0, :3], measured[:3] + np.array([0.01, 0, 0]))


def test_euler_deltas_are_composed_and_not_added() -> None:
    """Adding them component by component is a mistake of released adapters: after five steps of 0.2 rad about
    two axes it is off by a tenth of a radian."""
    raw, described = euler_deltas("measured")
    start = np.array([0.4, 0, 0.3, 0, 0, 0, 1.0])
    last = Rotation.from_quat(decode(raw, observation(start), described, unscaled(6), ONE).targets[-1, 3:])
    composed = Rotation.identity()
    for _ in range(5):
        composed = Rotation.from_euler("xyz", [0.2, 0, 0.2]) * composed
    assert (last.inv() * composed).magnitude() < 1e-7
    assert (last.inv() * Rotation.from_euler("xyz", [1.0, 0, 1.0])).magnitude() > 0.1


def test_two_arms_are_each_relative_to_their_own_joints_whatever_the_policy_s_order() -> None:
    """A mistake of released adapters: the state, in the order it was sent, added to actions in the model's
    order, so that dimensions 6 to 12 of a bimanual robot are misaligned."""
    part = {"signal": "joint_position", "size": 7, "reference": "relative"}
    action = [
        {"arm": "right", **part},
        {"arm": "right", "signal": "gripper", "size": 1, "gripper": {"unit": "width_m"}},
        {"arm": "left", **part},
        {"arm": "left", "signal": "gripper", "size": 1, "gripper": {"unit": "width_m"}},
    ]
    described = manifest(action)
    # The robot's first arm plays the policy's first role.
    two = robot("second", "first")
    state = {f"{name}/joint_position": np.full(7, at) for name, at in (("first", 10.0), ("second", 20.0))}
    values = np.tile([1.0] * 7 + [0.01] + [2.0] * 7 + [0.02], (5, 1))
    channels, targets = to_targets(values, described, two, Origins(state, None, 0.1))
    of = dict(zip(channels, targets[0].tolist(), strict=True))
    assert [of[name] for name in joint_channels("second", 7)] == [21.0] * 7
    assert [of[name] for name in joint_channels("first", 7)] == [12.0] * 7
    assert (of["second/gripper"], of["first/gripper"]) == (0.01, 0.02)


# --- layout ----------------------------------------------------------------------------------------


def test_padding_is_ignored_and_written_as_zeros() -> None:
    """StarVLA's 32 columns, of which the leading 7 are valid."""
    slices = [*pose_parts("world_delta", "world_delta", "axis_angle", 3), gripper_part()]
    described = manifest([*slices, {"signal": "padding", "size": 25}])
    assert described.outputs.size == 32
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 0.1, (5, 32)).astype(np.float32)
    start = observation(some_pose())
    narrow = decode(RawChunk(raw[:, :7]), start, manifest(slices), unscaled(7), ONE)
    chunk = decode(RawChunk(raw), start, described, unscaled(32), ONE)
    assert np.array_equal(chunk.targets, narrow.targets)
    back = encode(chunk, start.state, described, unscaled(32), ONE).values
    assert back.shape == (5, 32)
    assert not back[:, 7:].any()
    assert np.allclose(back[:, :6], raw[:, :6], atol=1e-6)


def test_padding_is_zero_where_statistics_would_make_it_something_else() -> None:
    described = manifest([*pose_parts(), {"signal": "padding", "size": 4}, gripper_part()])
    scaling = Scaling(np.full(14, 1.0), np.full(14, 3.0), np.ones(14, bool))
    start = observation(some_pose())
    chunk = decode(RawChunk(np.random.default_rng(0).normal(size=(5, 14))), start, described, scaling, ONE)
    raw = encode(chunk, start.state, described, scaling, ONE).values
    assert not raw[:, 9:13].any()
    assert raw[:, :9].any()


def test_the_unified_space_of_a_policy_for_many_robots() -> None:
    """eef, joints, gripper, hand and aux beside each other: what this robot does not use is padding."""
    described = manifest(
        [
            {"signal": "padding", "size": 9},
            {"arm": "arm", "signal": "joint_position", "size": 7, "reference": "absolute"},
            gripper_part(unit="width_m"),
            {"signal": "padding", "size": 12},
            {"signal": "padding", "size": 3},
        ]
    )
    raw = np.tile(np.arange(32, dtype=np.float32) / 1000, (5, 1))
    chunk = decode(RawChunk(raw), observation(None), described, unscaled(32), ONE)
    assert chunk.channels == (*joint_channels("arm", 7), gripper_channel("arm"))
    assert chunk.targets[0].tolist() == pytest.approx(np.arange(9, 17) / 1000)


@pytest.mark.parametrize(
    ("span_s", "horizon", "first_step", "first_due_s"),
    [(4.0, 30, 1, 4 / 30), (1.0, 30, 1, 1 / 30), (10.0, 30, 1, 1 / 3), (4.0, 5, 0, 0.0)],
)
def test_anchors_spread_over_a_span(span_s, horizon, first_step, first_due_s) -> None:
    """X-VLA: 30 anchors over 4 s (DROID), 1 s (LIBERO), 10 s (RT-1)."""
    outputs = manifest(pose_parts(), horizon, anchor_span_s=span_s, first_step=first_step).outputs
    due = (due_times(STAMP, outputs) - STAMP) / 1e9
    assert due[0] == pytest.approx(first_due_s)
    assert due[-1] == pytest.approx(span_s)
    assert np.diff(due) == pytest.approx(outputs.step_s, abs=1e-8)


def test_row_k_is_due_at_stamp_plus_k_plus_first_step() -> None:
    for first in (0, 1):
        described = manifest([*pose_parts(), gripper_part()], first_step=first)
        chunk = decode(STILL, observation(some_pose()), described, unscaled(10), ONE)
        assert (chunk.due_ns - STAMP).tolist() == [int((k + first) * 1e8) for k in range(5)]


@pytest.mark.parametrize("speed", [0.25, 1.0, 2.0])
def test_speed_stretches_the_due_times_and_nothing_else(speed) -> None:
    seen = observation(some_pose(), joint_position=np.zeros(7))
    usual = decode(STILL, seen, PLAIN, unscaled(10), ONE)
    chunk = decode(STILL, seen, PLAIN, unscaled(10), ONE, speed)
    assert (chunk.due_ns - STAMP).tolist() == [int((k + 1) * 1e8 / speed) for k in range(5)]
    assert chunk.stamp_ns == STAMP
    assert np.array_equal(chunk.targets, usual.targets)
    cut = first_rows(chunk, 2)
    assert cut.due_ns.tolist() == chunk.due_ns[:2].tolist()
    assert np.array_equal(cut.targets, usual.targets[:2])
    # A velocity played slower takes longer over the same way.
    velocity = manifest([{"arm": "arm", "signal": "joint_velocity", "size": 7, "delta_base": "measured"}])
    chunk = decode(RawChunk(np.ones((5, 7))), seen, velocity, unscaled(7), ONE, speed)
    assert chunk.targets[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize("speed", [0.0, 0.2, 2.1, float("nan")])
def test_a_speed_beyond_reason_is_an_error(speed) -> None:
    with pytest.raises(ValueError, match="speed"):
        due_times(STAMP, PLAIN.outputs, speed)


# --- grippers from chunk to chunk ------------------------------------------------------------------------


def gripper_rows(values: list[float], last: ActionChunk | None, **binary: float) -> list[float]:
    described = manifest(
        [gripper_part(unit="open_fraction", binary={"threshold": 0.5, **binary})], len(values)
    )
    raw = RawChunk(np.array(values)[:, None])
    return decode(raw, observation(None), described, unscaled(1), ONE, last=last).targets[:, 0].tolist()


def asked_widths(*widths: float) -> ActionChunk:
    """Rows 0.1 s apart, the last due at STAMP."""
    due = STAMP - np.arange(len(widths))[::-1] * 10**8
    return ActionChunk((gripper_channel("arm"),), np.array(widths)[:, None], due, int(due[0]) - 10**8)


def test_a_gripper_remembers_what_the_chunk_before_wanted() -> None:
    assert gripper_rows([0.45, 0.55], asked_widths(0.08, 0.08), hysteresis=0.1) == [0.08, 0.08]
    assert gripper_rows([0.55, 0.45], asked_widths(0.0, 0.0), hysteresis=0.1) == [0.0, 0.0]
    # It closed two rows ago and stays so for one more.
    assert gripper_rows([1, 1], asked_widths(0.08, 0.0, 0.0), sticky_steps=3) == [0.0, 0.08]
    assert gripper_rows([1, 1], asked_widths(0.0, 0.0, 0.0), sticky_steps=3) == [0.08, 0.08]


# --- what cannot be done -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((4, 10), np.float32), "shape"),
        (np.zeros((5, 9), np.float32), "shape"),
        (np.full((5, 10), np.nan, np.float32), "nan"),
        (np.full((5, 10), np.inf, np.float32), "nan"),
        (np.zeros((5, 10), np.float32), "rotation"),
    ],
)
def test_what_cannot_be_decoded_is_refused(values, reason) -> None:
    """Never zeros as the action, as released adapters send on failure."""
    with pytest.raises(Refused) as caught:
        decode(RawChunk(values), observation(some_pose()), PLAIN, unscaled(10), ONE)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("action", "group"),
    [
        (pose_parts(), "arm/tcp_pose"),
        (pose_parts("world_relative", "absolute"), "arm/tcp_pose"),
        ([{"arm": "arm", "size": 7, **JOINTS[1]}], "arm/joint_position"),
        ([{"arm": "arm", "size": 7, **JOINTS[-1]}], "arm/joint_position"),
    ],
)
def test_what_is_not_observed_is_refused_and_not_taken_for_zero(action, group) -> None:
    described = manifest(action)
    raw = RawChunk(np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0], (5, 1))[:, : described.outputs.size].astype(float))
    with pytest.raises(Refused, match=group) as caught:
        decode(raw, observation(None), described, unscaled(described.outputs.size), ONE)
    assert caught.value.reason == "incomplete"


def test_an_absolute_policy_needs_no_state() -> None:
    described = manifest([*pose_parts("absolute", "absolute"), gripper_part()])
    targets = decode(STILL, observation(None), described, unscaled(10), ONE).targets
    assert targets[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 0.08]


def test_what_the_robot_has_not_is_a_contract_error() -> None:
    seen = observation(some_pose(), joint_position=np.zeros(7))
    without = robot("arm", arm=ARM.model_copy(update={"gripper": None}))
    with pytest.raises(ContractError, match="gripper"):
        decode(STILL, seen, PLAIN, unscaled(10), without)
    six = manifest([{"arm": "arm", "size": 6, "signal": "joint_velocity", "delta_base": "measured"}])
    with pytest.raises(ContractError, match="has 6 values; the robot's arm 'arm' has 7 joints"):
        decode(RawChunk(np.zeros((5, 6))), seen, six, unscaled(6), ONE)
    half = manifest(pose_parts()[:1])
    with pytest.raises(ContractError, match="both tcp_position and tcp_rotation"):
        decode(RawChunk(np.zeros((5, 3))), seen, half, unscaled(3), ONE)
    drives = manifest([*pose_parts(), {"signal": "base_velocity", "size": 2}])
    with pytest.raises(ContractError, match=r"drives a base.*robot 'franka' has none"):
        decode(RawChunk(np.zeros((5, 11))), seen, drives, unscaled(11), ONE)
    two = manifest([*pose_parts(), *pose_parts(arm="other")])
    with pytest.raises(ContractError, match="moves 2 arms"):
        decode(RawChunk(np.zeros((5, 18))), seen, two, unscaled(18), ONE)
