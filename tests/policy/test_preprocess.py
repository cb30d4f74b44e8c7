from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tokenizers import Tokenizer

from tests.tiny_bundle import franka_fields, image_input, manifest_fields, write_tiny_bundle
from vla_ros.errors import BundleError, ContractError, Refused
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.manifest_inputs import ImageInput
from vla_ros.policy.preprocess import KERNELS, Preprocessor, finished, fitted_size, resize_jobs
from vla_ros.policy.prompt import read_tokenizer
from vla_ros.robot.config import Robot
from vla_ros.types import Observation

FRANKA = Robot.model_validate(franka_fields())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def picture(width: int = 640, height: int = 480, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def observation(prompt: str = "pick up the red block", **state: np.ndarray) -> Observation:
    pose = np.concatenate([[0.4, 0.1, 0.3], Rotation.from_euler("xyz", [0.3, -0.2, 2.0]).as_quat()])
    return Observation(
        images={"front": picture(seed=1), "wrist": picture(seed=2)},
        state={
            "arm/joint_position": np.zeros(7),
            "arm/tcp_pose": pose,
            "arm/gripper": np.array([0.08]),
            **state,
        },
        prompt=prompt,
        stamps_ns={},
        stamp_ns=1,
    )


def image_to_input(rgb: np.ndarray, spec: ImageInput) -> np.ndarray:
    """uint8 [H, W, 3] RGB as the graph gets it, [1, height, width, 3]."""
    out = np.zeros((1, spec.height, spec.width, 3), np.uint8)
    for job in resize_jobs(rgb, spec, out[0]):
        job()
    return finished(out, spec)


def test_stretching_is_opencvs_kernel_of_that_name() -> None:
    rgb = picture()
    for kernel, flag in {"nearest": 0, "linear": 1, "cubic": 2, "area": 3}.items():
        found = image_to_input(rgb, ImageInput(**image_input("front", kernel=kernel)))
        assert found.shape == (1, 96, 128, 3)
        assert found.dtype == np.uint8
        assert np.array_equal(found[0], cv2.resize(rgb, (128, 96), interpolation=flag))


@pytest.mark.parametrize("fit", ["stretch", "pad_centre", "pad_left_top"])
@pytest.mark.parametrize("kernel", ["nearest", "linear", "cubic", "area"])
@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (640, 96), (641, 480), (640, 479), (300, 960), (5, 1)]
)
def test_resizing_in_parts_changes_no_pixel(kernel: str, fit: str, width: int, height: int) -> None:
    rgb = picture(width, height)
    spec = ImageInput(**image_input("front", kernel=kernel, fit=fit))
    left, top, new_width, new_height = fitted_size(width, height, spec)
    whole = cv2.resize(rgb, (new_width, new_height), interpolation=KERNELS[kernel])
    found = image_to_input(rgb, spec)[0]
    assert np.array_equal(found[top : top + new_height, left : left + new_width], whole)


def test_area_is_the_mean_of_the_covered_pixels() -> None:
    rgb = picture(640, 480)
    found = image_to_input(rgb, ImageInput(**image_input("front", kernel="area")))[0]
    means = rgb.reshape(96, 5, 128, 5, 3).mean((1, 3))
    assert np.abs(found - means).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_a_view_with_reversed_channels_gives_the_same(colour: str) -> None:
    rgb = picture()
    spec = ImageInput(**image_input("front", colour=colour))
    bgr_message = np.ascontiguousarray(rgb[:, :, ::-1])
    assert np.array_equal(image_to_input(bgr_message[:, :, ::-1], spec), image_to_input(rgb, spec))


def test_colour_order() -> None:
    red = np.zeros((480, 640, 3), np.uint8)
    red[:, :, 0] = 200
    for colour, pixel in {"rgb": [200, 0, 0], "bgr": [0, 0, 200]}.items():
        spec = ImageInput(**image_input("front", colour=colour))
        assert image_to_input(red, spec)[0, 5, 5].tolist() == pixel


def test_one_grey_channel_repeated_gives_three() -> None:
    grey = picture()[:, :, :1]
    found = image_to_input(np.broadcast_to(grey, (480, 640, 3)), ImageInput(**image_input("front")))
    assert np.array_equal(found[..., 0], found[..., 2])
    assert np.array_equal(found[0, :, :, 0], cv2.resize(grey, (128, 96), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(("fit", "top"), [("pad_centre", 28), ("pad_left_top", 56)])
def test_padding_keeps_the_aspect_ratio_and_is_black(fit: str, top: int) -> None:
    spec = ImageInput(**image_input("front", width=224, height=224, fit=fit, kernel="linear"))
    white = np.full((480, 640, 3), 255, np.uint8)
    found = image_to_input(white, spec)[0]
    assert (found[top : top + 168] == 255).all()
    assert not found[:top].any()
    assert not found[top + 168 :].any()


@given(
    width=st.integers(1, 2000),
    height=st.integers(1, 2000),
    fit=st.sampled_from(["stretch", "pad_centre", "pad_left_top"]),
)
def test_the_fitted_image_lies_inside_the_network_s(width: int, height: int, fit: str) -> None:
    spec = ImageInput(**image_input("front", fit=fit))
    left, top, new_width, new_height = fitted_size(width, height, spec)
    assert left >= 0
    assert top >= 0
    assert 1 <= new_width <= 128 - left
    assert 1 <= new_height <= 96 - top
    if fit != "stretch" and min(new_width, new_height) > 20:
        assert abs(new_width / new_height / (width / height) - 1) < 0.1
        assert new_width == 128 or new_height == 96


def test_float_images_are_normalised_as_declared() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    spec = ImageInput(**image_input("front", dtype="float32", mean=mean, std=std))
    plain = image_to_input(picture(), ImageInput(**image_input("front")))
    found = image_to_input(picture(), spec)
    assert found.dtype == np.float32
    assert found == pytest.approx((plain / 255 - np.array(mean)) / np.array(std), abs=1e-5)


def test_the_whole_input(bundle: Bundle) -> None:
    seen = observation()
    inputs = Preprocessor(bundle, FRANKA)(seen)
    assert set(inputs) == {"image.front", "image.wrist", "tokens", "state"}
    assert not np.array_equal(inputs["image.front"], inputs["image.wrist"])
    assert inputs["tokens"].tolist() == [[2, 3, 4, 12, 6] + [0] * 11]
    rotation = Rotation.from_quat(seen.state["arm/tcp_pose"][3:]).as_matrix()
    si = np.concatenate([[0.4, 0.1, 0.3], rotation[:, 0], rotation[:, 1], [0.08]])
    low, high = bundle.proprio.low, bundle.proprio.high
    assert inputs["state"].dtype == np.float32
    assert inputs["state"][0] == pytest.approx(2 * (si - low) / (high - low) - 1, abs=1e-6)


def test_the_state_is_clipped_where_the_manifest_says_so(tmp_path: Path) -> None:
    fields = manifest_fields()
    outside = {"arm/gripper": np.array([0.12])}
    clipped = Preprocessor(write_tiny_bundle(tmp_path / "a", **fields), FRANKA)(observation(**outside))
    assert clipped["state"][0, 9] == 1.0
    fields["normalisation"]["proprio"]["clip"] = False
    free = Preprocessor(write_tiny_bundle(tmp_path / "b", **fields), FRANKA)(observation(**outside))
    assert free["state"][0, 9] == pytest.approx(2.0)


def test_roles_are_mapped_by_the_robot(bundle: Bundle) -> None:
    fields = franka_fields()
    fields["policy"]["cameras"] = {"front": "wrist", "wrist": "front"}
    swapped = Preprocessor(bundle, Robot.model_validate(fields))
    assert swapped.cameras == ["wrist", "front"]
    straight = Preprocessor(bundle, FRANKA)(observation())
    assert np.array_equal(swapped(observation())["image.front"], straight["image.wrist"])


def test_an_unmapped_role_is_refused(bundle: Bundle) -> None:
    fields = franka_fields()
    fields["policy"]["cameras"] = {"front": "front"}
    with pytest.raises(ContractError, match=r"cameras \['wrist'\] are not mapped"):
        Preprocessor(bundle, Robot.model_validate(fields))


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t"])
def test_an_empty_prompt_is_refused(bundle: Bundle, prompt: str) -> None:
    with pytest.raises(Refused) as caught:
        Preprocessor(bundle, FRANKA)(observation(prompt))
    assert caught.value.reason == "prompt_empty"


@pytest.mark.parametrize("prompt", ["block " * 17, "x" * 10_000, "block " * 1700])
def test_a_long_prompt_is_refused_and_never_cut(bundle: Bundle, prompt: str) -> None:
    with pytest.raises(Refused) as caught:
        Preprocessor(bundle, FRANKA)(observation(prompt))
    assert caught.value.reason == "prompt_too_long"


def test_a_prompt_of_exactly_max_tokens_is_taken(bundle: Bundle) -> None:
    assert Preprocessor(bundle, FRANKA).tokens("block " * 16).tolist() == [[6] * 16]


def test_truncation_inside_the_tokenizer_file_is_switched_off(tmp_path: Path) -> None:
    fields = manifest_fields()
    written = write_tiny_bundle(tmp_path / "plain", **fields)
    tokenizer = Tokenizer.from_file(str(written.path("tokenizer.json")))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    files = {name: written.path(name) for name in written.manifest.sha256}
    files["tokenizer.json"] = tokenizer.to_str().encode()
    cutting = write_bundle(tmp_path / "cutting", fields, files)
    preprocessor = Preprocessor(cutting, FRANKA)
    assert preprocessor.tokens("pick up the red block").tolist() == [[2, 3, 4, 12, 6] + [0] * 11]
    with pytest.raises(Refused):
        preprocessor.tokens("block " * 17)


def test_the_template_and_lower_case_are_applied(bundle: Bundle, tmp_path: Path) -> None:
    assert Preprocessor(bundle, FRANKA).tokens("Pick UP").tolist()[0][:3] == [2, 3, 0]
    fields = manifest_fields()
    fields["inputs"]["prompt"] |= {"template": "lift the {instruction}", "lowercase": False}
    other = Preprocessor(write_tiny_bundle(tmp_path, **fields), FRANKA)
    assert other.tokens("Red {instruction}").tolist()[0][:4] == [10, 4, 1, 1]


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    written = write_tiny_bundle(tmp_path)
    written.path("tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json: not a tokenizers file"):
        read_tokenizer(written)


def test_a_missing_state_is_refused(bundle: Bundle) -> None:
    seen = observation()
    state = {name: value for name, value in seen.state.items() if name != "arm/gripper"}
    poor = Observation(seen.images, state, seen.prompt, {}, 1)
    with pytest.raises(Refused) as caught:
        Preprocessor(bundle, FRANKA)(poor)
    assert caught.value.reason == "incomplete"
