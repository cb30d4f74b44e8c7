import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_ros.action.decode import decode, due_times, encode, first_rows, gripper_open
from vla_ros.action.normalise import Scaling, unscaled
from vla_ros.errors import ContractError, Refused
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_outputs import GripperRule
from vla_ros.robot.channels import gripper_channel, tool_channels
from vla_ros.robot.config import Robot
from vla_ros.types import ActionChunk, Observation, RawChunk

STAMP = 1_700_000_000_123_456_789


IDENTITY_STATISTICS = unscaled(10)


@pytest.fixture(scope="module")
def robot(request) -> Robot:
    text = (request.config.rootpath / "robot_configs" / "franka.yaml").read_text()
    return Robot.model_validate(yaml.safe_load(text))


def manifest(reference="eef_relative", layout="columns", **outputs) -> Manifest:
    pose = {"arm": "arm", "reference": reference}
    fields = {
        "schema_version": 2,
        "name": "test",
        "embodiment": "franka_fr3",
        "arms": ["arm"],
        "inputs": {
            "images": [],
            "state": [],
            "prompt": {
                "template": "{instruction}",
                "tokenizer": "t.json",
                "max_tokens": 4,
                "pad_id": 0,
                "lowercase": True,
            },
            "history": 1,
        },
        "outputs": {
            "horizon": 5,
            "dt_s": 0.1,
            "first_step": 1,
            "action": [
                {**pose, "signal": "tcp_position", "size": 3},
                {**pose, "signal": "tcp_rot6d", "size": 6, "rot6d": layout},
                {"arm": "arm", "signal": "gripper", "size": 1, "reference": "absolute"},
            ],
            "gripper": {"open_is": 1, "threshold": 0.5, "hysteresis": 0.1},
            **outputs,
        },
        "normalisation": {"action": {"kind": "none"}, "proprio": {"kind": "none"}},
        "sampler": {
            "kind": "flow_matching",
            "direction": "noise_to_data",
            "steps": 4,
            "noise_seed": 0,
            "rtc": "none",
        },
        "graphs": {"prefix": "p.onnx", "step": "s.onnx"},
        "parity": "parity.npz",
        "latency": {"device": "cpu", "p50_ms": 1, "p99_ms": 1},
        "sha256": {},
    }
    return Manifest.model_validate(fields)


def observation(pose: np.ndarray | None) -> Observation:
    state = {} if pose is None else {"arm/tcp_pose": pose}
    return Observation(images={}, state=state, prompt="", stamps_ns={}, stamp_ns=STAMP)


def random_pose(rng) -> np.ndarray:
    return np.concatenate([rng.uniform(-0.5, 0.5, 3), Rotation.random(rng=rng).as_quat()])


def matrix(pose: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(pose[3:]).as_matrix(), pose[:3]
    return T


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    reference=st.sampled_from(["eef_relative", "absolute"]),
    layout=st.sampled_from(["columns", "columns_interleaved", "rows"]),
)
def test_encode_then_decode_gives_the_same_targets(seed, reference, layout, request) -> None:
    robot = Robot.model_validate(
        yaml.safe_load((request.config.rootpath / "robot_configs/franka.yaml").read_text())
    )
    rng = np.random.default_rng(seed)
    described = manifest(reference, layout)
    start = random_pose(rng)
    poses = np.array([random_pose(rng) for _ in range(5)])
    widths = rng.choice([0.0, 0.08], 5)[:, None]
    chunk = ActionChunk(
        channels=(*tool_channels("arm"), gripper_channel("arm")),
        targets=np.hstack([poses, widths]),
        due_ns=STAMP + np.arange(1, 6) * 100_000_000,
        stamp_ns=STAMP,
    )
    span = rng.uniform(0.5, 2, 10)
    low = rng.uniform(-1, 1, 10)
    statistics = Scaling(low, low + span, np.array([True] * 9 + [False]))
    raw = encode(chunk, {"arm": start}, described, statistics, robot.arms)
    assert raw.values.dtype == np.float32
    back = decode(raw, observation(start), described, statistics, robot.arms)
    assert back.channels == chunk.channels
    assert back.stamp_ns == STAMP
    assert back.due_ns.tolist() == chunk.due_ns.tolist()
    # float32 in between
    assert np.allclose(back.targets[:, :3], poses[:, :3], atol=1e-6)
    assert np.all(
        (Rotation.from_quat(poses[:, 3:]).inv() * Rotation.from_quat(back.targets[:, 3:7])).magnitude() < 1e-5
    )
    assert back.targets[:, 7].tolist() == widths[:, 0].tolist()


def test_eef_relative_is_composed_on_the_pose_of_the_observation_exactly_once(robot) -> None:
    rng = np.random.default_rng(3)
    start, step = random_pose(rng), random_pose(rng)
    T = matrix(step)
    row = np.concatenate([T[:3, 3], T[:3, 0], T[:3, 1], [1.0]])
    raw = RawChunk(np.tile(row, (5, 1)).astype(np.float64))
    targets = decode(raw, observation(start), manifest(), IDENTITY_STATISTICS, robot.arms).targets
    expected = matrix(start) @ T
    assert np.allclose(targets[:, :3], expected[:3, 3], atol=1e-9)
    # Not chained from row to row: every row refers to the pose at the chunk's start.
    assert np.allclose(targets, targets[0])
    assert np.allclose(Rotation.from_quat(targets[0, 3:7]).as_matrix(), expected[:3, :3], atol=1e-9)


def test_row_k_is_due_at_stamp_plus_k_plus_first_step(robot) -> None:
    raw = RawChunk(np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0, 1], (5, 1)).astype(np.float32))
    for first in (0, 1):
        chunk = decode(
            raw, observation(random_pose(np.random.default_rng(0))), manifest(first_step=first),
            IDENTITY_STATISTICS, robot.arms,
        )  # fmt: skip
        assert (chunk.due_ns - STAMP).tolist() == [int((k + first) * 1e8) for k in range(5)]


@pytest.mark.parametrize("speed", [0.25, 1.0, 2.0])
def test_speed_stretches_the_due_times_and_nothing_else(robot, speed) -> None:
    raw = RawChunk(np.tile([0.1, 0, 0, 1, 0, 0, 0, 1, 0, 1], (5, 1)).astype(np.float32))
    seen = observation(random_pose(np.random.default_rng(0)))
    usual = decode(raw, seen, manifest(), IDENTITY_STATISTICS, robot.arms)
    chunk = decode(raw, seen, manifest(), IDENTITY_STATISTICS, robot.arms, speed)
    assert (chunk.due_ns - STAMP).tolist() == [int((k + 1) * 1e8 / speed) for k in range(5)]
    assert chunk.stamp_ns == STAMP
    assert np.array_equal(chunk.targets, usual.targets)
    cut = first_rows(chunk, 2)
    assert cut.due_ns.tolist() == chunk.due_ns[:2].tolist()
    assert np.array_equal(cut.targets, usual.targets[:2])


@pytest.mark.parametrize("speed", [0.0, 0.2, 2.1, float("nan")])
def test_a_speed_beyond_reason_is_an_error(robot, speed) -> None:
    with pytest.raises(ValueError, match="speed"):
        due_times(STAMP, manifest().outputs, speed)


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
def test_what_cannot_be_decoded_is_refused(robot, values, reason) -> None:
    pose = random_pose(np.random.default_rng(0))
    with pytest.raises(Refused) as caught:
        decode(RawChunk(values), observation(pose), manifest(), IDENTITY_STATISTICS, robot.arms)
    assert caught.value.reason == reason


def test_no_tool_pose_is_refused_and_not_taken_for_zero(robot) -> None:
    raw = RawChunk(np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0, 1], (5, 1)).astype(np.float32))
    with pytest.raises(Refused) as caught:
        decode(raw, observation(None), manifest(), IDENTITY_STATISTICS, robot.arms)
    assert caught.value.reason == "incomplete"


def test_a_gripper_the_robot_has_not_is_a_contract_error(robot) -> None:
    arms = {"arm": robot.arms["arm"].model_copy(update={"gripper": None})}
    raw = RawChunk(np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0, 1], (5, 1)).astype(np.float32))
    pose = random_pose(np.random.default_rng(0))
    with pytest.raises(ContractError, match="gripper"):
        decode(raw, observation(pose), manifest(), IDENTITY_STATISTICS, arms)


def test_gripper_hysteresis_in_both_polarities() -> None:
    rule = GripperRule(open_is=1, threshold=0.5, hysteresis=0.1)
    values = [0.7, 0.45, 0.55, 0.39, 0.55, 0.45, 0.61]
    expected = [True, True, True, False, False, False, True]
    assert gripper_open(values, rule).tolist() == expected
    mirrored = GripperRule(open_is=0, threshold=0.5, hysteresis=0.1)
    assert gripper_open(1 - np.array(values), mirrored).tolist() == expected
    uneven = GripperRule(open_is=0, threshold=0.3, hysteresis=0.05)
    # Closed is high here: above 0.35 closes, below 0.25 opens.
    assert gripper_open([0.2, 0.32, 0.36, 0.3, 0.24], uneven).tolist() == [True, True, False, False, True]
