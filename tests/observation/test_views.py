"""Undistort, rotate, flip and crop against what they mean, written out by pixel or by the lens model."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.observation.feed import Feed, at
from tests.observation.messages import camera_info, compressed
from tests.tiny_bundle import franka_fields
from vla_ros.errors import Refused
from vla_ros.observation.decode import decode_camera_info
from vla_ros.observation.views import undistortion, view
from vla_ros.robot.cameras import shown_size
from vla_ros.robot.config import Robot
from vla_ros.robot.config_cameras import Camera

WIDTH, HEIGHT = 160, 120
K = np.array([[120.0, 0, 81.5], [0, 118.0, 58.0], [0, 0, 1]])
PINHOLE = [-0.28, 0.09, 0.001, -0.002, -0.01]
RATIONAL = [0.3, -0.1, 0.001, -0.002, 0.02, 0.55, -0.05, 0.01]
FISHEYE = [0.02, -0.01, 0.004, -0.001]


def camera(**changes: Any) -> Camera:
    fields = {
        "topic": "/c/image",
        "camera_info": "/c/info",
        "width": WIDTH,
        "height": HEIGHT,
        "rate_hz": 30,
        "max_age_ms": 100,
    }
    return Camera.model_validate({**fields, **changes})


def noise(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def info(stamp_ns: int = at(0), **changes: Any) -> bytes:
    fields: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "model": "plumb_bob", "d": PINHOLE, "k": K}
    return camera_info(stamp_ns, **{**fields, **changes})


def lens(**changes: Any):
    return decode_camera_info(info(**changes))


# Turning and cutting.


@settings(max_examples=60, deadline=None)
@given(
    rotate=st.sampled_from([0, 90, 180, 270]),
    flip=st.sampled_from(["none", "horizontal", "vertical", "both"]),
    cut=st.none() | st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_each_pixel_is_where_the_yaml_says(rotate: int, flip: str, cut: tuple[int, int] | None) -> None:
    sent = noise()
    crop = None if cut is None else {"x": cut[0], "y": cut[1], "width": 40, "height": 30}
    declared = camera(rotate=rotate, flip=flip, crop=crop)
    got = view(sent, declared)
    width, height = shown_size(declared)
    assert got.shape == (height, width, 3)
    whole = (HEIGHT, WIDTH) if rotate in (90, 270) else (WIDTH, HEIGHT)
    rows, columns = np.mgrid[:height, :width]
    x, y = columns + (cut or (0, 0))[0], rows + (cut or (0, 0))[1]
    if flip in ("horizontal", "both"):
        x = whole[0] - 1 - x
    if flip in ("vertical", "both"):
        y = whole[1] - 1 - y
    # Clockwise by 90: what was at the left is at the top now.
    x, y = {
        0: (x, y),
        90: (y, HEIGHT - 1 - x),
        180: (WIDTH - 1 - x, HEIGHT - 1 - y),
        270: (WIDTH - 1 - y, x),
    }[rotate]
    assert np.array_equal(got, sent[y, x])
    assert np.shares_memory(got, sent)


@pytest.mark.parametrize(
    ("rotate", "code"),
    [(90, cv2.ROTATE_90_CLOCKWISE), (180, cv2.ROTATE_180), (270, cv2.ROTATE_90_COUNTERCLOCKWISE)],
)
def test_rotation_is_opencvs_clockwise(rotate: int, code: int) -> None:
    assert np.array_equal(view(noise(), camera(rotate=rotate)), cv2.rotate(noise(), code))


# Undistortion.


def distorted(model: str, d: list[float], x: float, y: float) -> tuple[float, float]:
    """Where a ray (x, y, 1) is seen, in units of the focal length: OpenCV's documentation of calib3d and of
    its fisheye module, written out."""
    r2 = x * x + y * y
    if model == "equidistant":
        r = math.sqrt(r2)
        theta = math.atan(r)
        bent = theta * (1 + sum(k * theta ** (2 * n) for n, k in enumerate(d, 1)))
        scale = bent / r if r else 1.0
        return x * scale, y * scale
    k1, k2, p1, p2, k3, *more = [*d, 0.0][:8] if len(d) == 4 else d
    k4, k5, k6 = more[:3] if more else (0.0, 0.0, 0.0)
    scale = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * scale + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * scale + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


MODELS = [
    ("plumb_bob", PINHOLE),
    ("plumb_bob", PINHOLE[:4]),
    ("rational_polynomial", RATIONAL),
    ("equidistant", FISHEYE),
    ("equidistant", [0.0] * 4),
]


@pytest.mark.parametrize(("model", "d"), MODELS)
@pytest.mark.parametrize("reverse", [False, True])
def test_each_pixel_shows_what_the_lens_model_says(model: str, d: list[float], reverse: bool) -> None:
    x, y = np.meshgrid(np.arange(WIDTH, dtype=float), np.arange(HEIGHT, dtype=float))
    # Linear in place, so that bilinear interpolation is exact.
    sent = np.stack([x, y, 255 - x], axis=2).astype(np.uint8)
    given_ = np.ascontiguousarray(sent[:, :, ::-1])[:, :, ::-1] if reverse else sent
    p = np.array([[100.0, 0, 78, 0], [0, 101.0, 61, 0], [0, 0, 1, 0]])
    r = cv2.Rodrigues(np.array([0.02, -0.03, 0.05]))[0]
    got = undistortion("c", lens(model=model, d=d, r=r, p=p), camera(undistort=True)).of(given_)
    seen = 0
    for v in range(5, HEIGHT, 9):
        for u in range(5, WIDTH, 9):
            ray = r.T @ np.linalg.solve(p[:, :3], [u, v, 1])
            bent = distorted(model, d, ray[0] / ray[2], ray[1] / ray[2])
            at_u, at_v = (K @ [*bent, 1])[:2]
            if 1 <= at_u < WIDTH - 2 and 1 <= at_v < HEIGHT - 2:
                assert np.abs(got[v, u] - np.array([at_u, at_v, 255 - at_u])).max() < 1.1, (u, v)
                seen += 1
    assert seen > 60


def test_a_rectified_picture_is_passed_on_untouched() -> None:
    sent = noise()
    assert undistortion("c", lens(d=[0.0] * 5), camera(undistort=True)).of(sent) is sent


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 320}, "/c/info is for 320x120, the robot YAML says 160x120"),
        ({"k": np.zeros((3, 3))}, "not calibrated"),
        ({"p": np.zeros((3, 4))}, "not calibrated"),
        ({"d": [math.nan] * 5}, "calibrat"),
        ({"d": []}, "has 0 coefficients d; plumb_bob has 4 or 5"),
        ({"model": "inverse_brown"}, "known are .'equidistant', 'plumb_bob', 'rational_polynomial'"),
        ({"r": np.zeros((3, 3))}, "no rotation"),
        ({"binning": 2}, "binning or a region of interest"),
        ({"roi": (8, 0, 64, 64)}, "binning or a region of interest"),
    ],
)
def test_a_lens_that_does_not_fit_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says) as caught:
        undistortion("camera/front", lens(**changes), camera(undistort=True))
    assert caught.value.reason == "camera_info"


# On the way into an observation.


def franka(**changes: Any) -> Robot:
    fields = franka_fields()
    fields["cameras"]["front"] |= changes
    return Robot.model_validate(fields)


FRONT_K = np.array([[500.0, 0, 320], [0, 500.0, 240], [0, 0, 1]])


def front_info(**changes: Any) -> bytes:
    return info(**{"width": 640, "height": 480, "k": FRONT_K, **changes})


def test_an_observation_shows_the_camera_as_the_yaml_says() -> None:
    crop = {"x": 10, "y": 20, "width": 300, "height": 400}
    robot = franka(undistort=True, rotate=90, flip="vertical", crop=crop)
    feed = Feed(robot).all()
    feed.buffers.camera_info("front", front_info())
    seen = feed.see().images
    sent = feed.buffers.cameras["front"].samples[-1][1].rgb()
    flat = cv2.undistort(np.ascontiguousarray(sent), FRONT_K, np.array(PINHOLE))
    turned = cv2.flip(cv2.rotate(flat, cv2.ROTATE_90_CLOCKWISE), 0)
    # cv2.undistort makes its maps in strips, which rounds otherwise here and there.
    off = np.abs(seen["front"].astype(int) - turned[20:420, 10:310])
    assert seen["front"].shape == (400, 300, 3) and np.mean(off > 2) < 1e-3
    assert seen["wrist"].shape == (480, 640, 3)


def test_without_camera_info_there_is_no_observation() -> None:
    feed = Feed(franka(undistort=True)).all()
    refusal = feed.refusal()
    assert refusal.reason == "no_camera_info"
    assert "camera/front: nothing received on /front/color/camera_info" in str(refusal)
    feed.buffers.camera_info("front", front_info(width=320))
    assert feed.refusal().reason == "camera_info"
    feed.buffers.camera_info("front", b"\0\1\0\0")
    assert feed.refusal().reason == "undecodable"
    feed.buffers.camera_info("front", front_info())
    assert feed.see().images["front"].shape == (480, 640, 3)


def test_a_frame_is_worked_on_once_and_again_with_another_lens() -> None:
    feed = Feed(franka(undistort=True)).all()
    feed.buffers.camera_info("front", front_info())
    first = feed.see().images["front"]
    feed.buffers.camera_info("front", front_info(stamp_ns=at(30)))
    assert feed.see().images["front"] is first
    feed.buffers.camera_info("front", front_info(d=[0.1, 0.0, 0.0, 0.0, 0.0]))
    other = feed.see().images["front"]
    assert not np.array_equal(other, first)


def test_pictures_are_kept_no_longer_than_their_frames() -> None:
    feed = Feed(franka(rotate=180))
    for ms in range(0, 400, 33):
        feed.all(ms).see(ms + 20)
    shown = feed.buffers._shown["front"]
    assert set(shown._kept) <= {stamp for stamp, _ in feed.buffers.cameras["front"].samples}


def test_a_clock_that_was_set_back_brings_no_old_picture() -> None:
    feed = Feed(franka(rotate=180)).all()
    assert feed.see().images["front"].any()
    feed.buffers.cameras["front"].clear()
    feed.image("front", 0, np.zeros((480, 640, 3), np.uint8))
    assert not feed.see().images["front"].any()


def test_the_size_in_the_yaml_is_that_of_the_topic() -> None:
    feed = Feed(franka(rotate=90)).all()
    assert feed.see().images["front"].shape == (640, 480, 3)
    feed.image("front", 10, np.zeros((640, 480, 3), np.uint8))
    assert feed.refusal().reason == "changed_size"
    robot = franka(rotate=90, transport="compressed")
    feed = Feed(robot)
    feed.buffers.image("front", compressed(at(0), np.zeros((640, 480, 3), np.uint8)), at(0))
    with pytest.raises(Refused) as caught:
        stamp, frame = feed.buffers.cameras["front"].samples[-1]
        feed.buffers.picture("front", stamp, frame)
    assert caught.value.reason == "changed_size"
