"""Real-time chunking: what the guidance is, and what the backend makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.action.manifests import manifest, pose_parts
from tests.mobile_base import BASE_ACTION, MOBILE
from tests.tiny_bundle import bundle_files, franka_fields, guided_graph, manifest_fields, step_graph, with_rtc
from tests.tiny_bundle import write_tiny_bundle as write
from vla_ros.action.decode import decode
from vla_ros.action.normalise import unscaled
from vla_ros.errors import BundleError
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.parity import read_parity, run_parity
from vla_ros.policy.rtc import Continuation, Guidance, guidance_weight, make_guidance, soft_weights
from vla_ros.robot.config import Robot
from vla_ros.types import ActionChunk, Observation, RawChunk

MS = 1_000_000
STAMP = 1_700_000_000_000 * MS
FRANKA = Robot.model_validate(franka_fields())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write(tmp_path_factory.mktemp("bundle"))


def pose(rng: np.random.Generator) -> np.ndarray:
    return np.concatenate(
        [rng.uniform(-0.5, 0.5, 3), Rotation.random(random_state=rng.integers(99)).as_quat()]
    )


def seen(stamp_ns: int, at: np.ndarray) -> Observation:
    state = {"arm/tcp_pose": at}
    return Observation(images={}, state=state, prompt="", stamps_ns={}, stamp_ns=stamp_ns)


def smooth_raw(rng: np.random.Generator) -> RawChunk:
    """A chunk near no motion, with a gripper that closes half-way."""
    values = np.cumsum(rng.normal(0, 0.1, (16, 10)), axis=0)
    values[:, 3] = values[:, 7] = 0.9
    values[:, 9] = np.arange(16) < 8
    return RawChunk(values.astype(np.float32))


def chunk_of(bundle: Bundle, raw: RawChunk, stamp_ns: int, at: np.ndarray, speed: float = 1.0) -> ActionChunk:
    return decode(raw, seen(stamp_ns, at), bundle.manifest, bundle.action, FRANKA, speed)


def guided(
    bundle: Bundle, previous: ActionChunk, stamp_ns: int, at: np.ndarray, latency_ms: int = 150, speed=1.0
) -> Guidance | None:
    return make_guidance(
        previous, seen(stamp_ns, at), latency_ms * MS, bundle.manifest, bundle.action, FRANKA, speed
    )


# --- what the guidance is -------------------------------------------------------------------------


@pytest.mark.complaint("lerobot 4580")
@pytest.mark.parametrize("seed", range(5))
def test_a_relative_chunk_is_seen_from_the_new_observation(bundle: Bundle, seed: int) -> None:
    """The tool has moved since: the target, decoded there, is where the previous chunk leads."""
    rng = np.random.default_rng(seed)
    then, now = pose(rng), pose(rng)
    raw = smooth_raw(rng)
    previous = chunk_of(bundle, raw, STAMP, then)
    guidance = guided(bundle, previous, STAMP + 300 * MS, now)
    assert guidance is not None
    again = chunk_of(bundle, RawChunk(guidance.target), STAMP + 300 * MS, now)
    assert again.due_ns[:13].tolist() == previous.due_ns[3:].tolist()
    assert again.targets[:13, :3] == pytest.approx(previous.targets[3:, :3], abs=1e-6)
    between = Rotation.from_quat(again.targets[:13, 3:7]).inv() * Rotation.from_quat(
        previous.targets[3:, 3:7]
    )
    assert between.magnitude().max() < 1e-5
    assert again.targets[:13, 7].tolist() == previous.targets[3:, 7].tolist()
    # Carried over as it is, the chunk would lead elsewhere.
    assert np.abs(raw.values[3:, :9] - guidance.target[:13, :9]).max() > 0.1


def test_rows_that_fall_between_those_of_the_previous_chunk_are_interpolated(bundle: Bundle) -> None:
    at = np.array([0.3, 0.1, 0.5, 0.0, 0.0, 0.0, 1.0])
    raw = np.zeros((16, 10), np.float32)
    raw[:, 0] = np.linspace(-1, 1, 16)  # -5 to 5 cm, evenly
    raw[:, 3] = raw[:, 7] = 1.0
    previous = chunk_of(bundle, RawChunk(raw), STAMP, at)
    guidance = guided(bundle, previous, STAMP + 437 * MS, at)
    assert guidance is not None
    again = chunk_of(bundle, RawChunk(guidance.target), STAMP + 437 * MS, at)
    rows = (again.due_ns - previous.due_ns[0]) / (100 * MS)
    assert again.targets[:11, 0] == pytest.approx(0.25 + rows[:11] * 0.1 / 15, abs=1e-6)
    assert guidance.weights[10] > 0
    assert (guidance.weights[11:] == 0).all()


@pytest.mark.complaint("lerobot 4223", "lerobot 4454", "lerobot 2541")
@pytest.mark.parametrize("latency_ms", [0, 60, 250, 900, 5_000])
def test_a_wrong_latency_freezes_more_or_fewer_rows_but_shifts_none(bundle: Bundle, latency_ms: int) -> None:
    """Elsewhere the delay says which row is compared with which; here the due times do."""
    rng = np.random.default_rng(0)
    at = pose(rng)
    previous = chunk_of(bundle, smooth_raw(rng), STAMP, at)
    right = guided(bundle, previous, STAMP + 300 * MS, at, 150)
    found = guided(bundle, previous, STAMP + 300 * MS, at, latency_ms)
    assert right is not None
    assert found is not None
    assert np.array_equal(found.target, right.target)
    # Rows are due 100, 200, ... ms after the stamp; the one under way at arrival is frozen too.
    assert found.frozen == {0: 1, 60: 1, 250: 3, 900: 9, 5_000: 13}[latency_ms]


def test_another_speed_is_taken_into_account(bundle: Bundle) -> None:
    rng = np.random.default_rng(1)
    at = pose(rng)
    previous = chunk_of(bundle, smooth_raw(rng), STAMP, at)
    stamp = STAMP + 200 * MS
    guidance = guided(bundle, previous, stamp, at, 450, speed=0.5)
    assert guidance is not None
    assert guidance.frozen == 3
    # At half speed, row k is due 200 (k + 1) ms after the stamp: every other row of the previous chunk.
    again = chunk_of(bundle, RawChunk(guidance.target), stamp, at, 0.5)
    assert again.targets[:7, :3] == pytest.approx(previous.targets[3::2, :3], abs=1e-6)
    assert np.count_nonzero(guidance.weights) == 7


def test_nothing_left_and_a_clock_set_back_give_no_guidance(bundle: Bundle) -> None:
    rng = np.random.default_rng(2)
    at = pose(rng)
    previous = chunk_of(bundle, smooth_raw(rng), STAMP, at)
    assert guided(bundle, previous, STAMP + 1_500 * MS, at) is not None
    assert guided(bundle, previous, STAMP + 1_501 * MS, at) is None
    assert guided(bundle, previous, STAMP, at) is None
    assert guided(bundle, previous, STAMP - 10_000 * MS, at) is None


def test_the_weights_are_the_paper_s() -> None:
    """For d = 2, s = 4, H = 10: c falls 4/5, 3/5, 2/5, 1/5."""
    c = np.array([4, 3, 2, 1]) / 5
    expected = [1, 1, *(c * (np.exp(c) - 1) / (np.e - 1)), 0, 0, 0, 0]
    assert soft_weights(10, 2, 6) == pytest.approx(expected, abs=1e-6)
    assert soft_weights(5, 3, 3).tolist() == [1, 1, 1, 0, 0]
    assert soft_weights(3, 3, 3).tolist() == [1, 1, 1]


def test_the_guidance_weight_is_clipped_where_the_formula_has_no_bound() -> None:
    assert guidance_weight(0.0, 8) == 5.0
    assert guidance_weight(0.01, 8) == 5.0
    assert guidance_weight(0.5, 8) == pytest.approx(2.0)
    assert guidance_weight(0.25, 8) == pytest.approx((0.75 / 0.25) * (0.0625 + 0.5625) / 0.5625)
    assert guidance_weight(0.0, 2) == 2.0  # one step of 1/2 goes all the way and not beyond


# --- what the backend makes of it -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["guided", "prefix"])
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_the_chunk_is_what_numpy_computes(tmp_path: Path, kind: str, steps: int) -> None:
    bundle = write(tmp_path, **with_rtc(kind, steps))
    result = run_parity(bundle, OnnxPolicy(bundle))
    assert result.max_error < 1e-4
    case = read_parity(bundle.path("parity.npz"))[0][0]
    assert case.guided is not None
    if steps > 1:
        assert np.abs(case.guided - case.expected).max() > 0.1


def test_guidance_draws_the_frozen_rows_most_and_the_last_ones_not_at_all(tmp_path: Path) -> None:
    bundle = write(tmp_path, **with_rtc("guided", 8))
    case, policy = read_parity(bundle.path("parity.npz"))[0][0], OnnxPolicy(bundle)
    assert case.guidance is not None
    plain = policy.infer(case.inputs, case.noise).values
    drawn = policy.infer(case.inputs, case.noise, case.guidance).values
    nearer = 1 - np.abs(drawn - case.guidance.target).mean(1) / np.abs(plain - case.guidance.target).mean(1)
    assert (nearer[:2] > 0.6).all()
    assert (np.diff(nearer[:10]) < 1e-6).all()
    assert np.array_equal(drawn[10:], plain[10:])


def test_a_prefix_is_kept_exactly_up_to_what_the_policy_was_trained_with(tmp_path: Path) -> None:
    bundle = write(tmp_path, **with_rtc("prefix"))
    case, policy = read_parity(bundle.path("parity.npz"))[0][0], OnnxPolicy(bundle)
    assert case.guidance is not None
    target = case.guidance.target
    for frozen in (1, 4, 6, 9):
        chunk = policy.infer(
            case.inputs, case.noise, Guidance(target, np.ones(16, np.float32), frozen)
        ).values
        kept = (chunk == target).all(1)
        assert kept[: min(frozen, 6)].all()
        assert not kept[6:].any()


def test_guidance_where_there_is_none_is_an_error(bundle: Bundle) -> None:
    case = read_parity(bundle.path("parity.npz"))[0][0]
    guidance = Guidance(case.expected, np.ones(16, np.float32), 1)
    with pytest.raises(ValueError, match="without real-time chunking"):
        OnnxPolicy(bundle).infer(case.inputs, case.noise, guidance)


@pytest.mark.parametrize(
    ("kind", "change", "text"),
    [
        ("guided", lambda fields: fields["graphs"].pop("step_guided"), "graphs.step_guided is needed"),
        ("guided", lambda fields: fields["sampler"].update(rtc="none"), "graphs.step_guided is needed"),
        ("prefix", lambda fields: fields["sampler"].pop("prefix_rows"), "prefix_rows is needed"),
        ("prefix", lambda fields: fields["sampler"].update(prefix_rows=16), "leaves none of the 16 rows"),
        ("guided", lambda fields: fields["sampler"].update(rtc=True), "sampler.rtc"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path: Path, kind: str, change, text: str) -> None:
    fields = {**manifest_fields(), **with_rtc(kind)}
    files = bundle_files(fields)
    change(fields)
    with pytest.raises(BundleError, match=text):
        write_bundle(tmp_path, fields, files)


@pytest.mark.parametrize(
    ("kind", "name", "graph", "text"),
    [
        ("guided", "step_guided.onnx", step_graph, "expected the prefix graph's outputs .* weights"),
        ("prefix", "step.onnx", step_graph, r"input 't' is .* \[1\], .* \[1, 16\]"),
        ("none", "step.onnx", guided_graph, "expected the prefix graph's outputs .* with x, t"),
    ],
)
def test_a_graph_of_another_kind_is_named(tmp_path: Path, kind: str, name: str, graph, text: str) -> None:
    fields = {**manifest_fields(), **({} if kind == "none" else with_rtc(kind))}
    bundle = write_bundle(tmp_path, fields, {**bundle_files(fields), name: graph(fields)})
    with pytest.raises(BundleError, match=text):
        OnnxPolicy(bundle)


def test_a_parity_file_without_guided_cases_is_refused(tmp_path: Path) -> None:
    fields = {**manifest_fields(), **with_rtc("guided")}
    files = {**bundle_files(fields), "parity.npz": bundle_files(manifest_fields())["parity.npz"]}
    bundle = write_bundle(tmp_path, fields, files)
    with pytest.raises(BundleError, match="has no guided cases"):
        run_parity(bundle, OnnxPolicy(bundle))


def test_a_base_s_velocities_go_on_where_the_previous_chunk_has_them() -> None:
    described = manifest([*pose_parts(), BASE_ACTION], 16)
    rng = np.random.default_rng(0)
    raw = np.cumsum(rng.normal(0, 0.1, (16, 11)), axis=0)
    raw[:, 3] = raw[:, 7] = 0.9
    still = np.array([0.4, 0, 0.3, 0, 0, 0, 1.0])
    previous = decode(RawChunk(raw), seen(STAMP, still), described, unscaled(11), MOBILE)
    guidance = make_guidance(
        previous, seen(STAMP + 300 * MS, still), 150 * MS, described, unscaled(11), MOBILE
    )
    assert guidance is not None
    assert guidance.target[:13, 9:] == pytest.approx(raw[3:, 9:], abs=1e-6)


def test_deltas_are_guided_from_the_target_that_they_will_be_decoded_on(tmp_path: Path) -> None:
    fields = manifest_fields()
    position, rotation, _ = fields["outputs"]["action"]
    position |= {"reference": "world_delta", "delta_base": "last_target"}
    rotation |= {"reference": "eef_delta", "delta_base": "last_target"}
    bundle = write(tmp_path, **fields)
    rng = np.random.default_rng(0)
    then, now = pose(rng), pose(rng)
    continuation = Continuation(bundle.manifest, bundle.action, FRANKA)
    previous = chunk_of(bundle, smooth_raw(rng), STAMP, then)
    continuation.published(previous, previous, seen(STAMP, then), STAMP + 150 * MS)
    later = seen(STAMP + 300 * MS, now)
    guidance = continuation.guidance(later, 1.0)
    assert guidance is not None
    again = decode(
        RawChunk(guidance.target), later, bundle.manifest, bundle.action, FRANKA, last=continuation.last
    )
    assert again.targets[:13, :3] == pytest.approx(previous.targets[3:, :3], abs=1e-5)
    between = Rotation.from_quat(again.targets[:13, 3:7]).inv() * Rotation.from_quat(
        previous.targets[3:, 3:7]
    )
    assert between.magnitude().max() < 1e-4
    # The first row is one delta from the third of the previous chunk, not from where the arm is.
    step = previous.targets[3, :3] - previous.targets[2, :3]
    low, high = bundle.action.extent
    found = low[:3] + (guidance.target[0, :3] + 1) / 2 * (high - low)[:3]
    assert found == pytest.approx(step, abs=1e-6)
