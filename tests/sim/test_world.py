"""The simulated scene: kinematics, servo, gripper, cameras, and its refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_ros.sim import franka_mjcf as mjcf
from vla_ros.sim.offscreen import RenderingUnavailableError
from vla_ros.sim.task import HOME_JOINTS, draw_scene
from vla_ros.sim.world import CAMERAS, World

URDF = Path(__file__).parents[2] / "robot_configs" / "urdf" / "fr3.urdf"


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def _dh_forward(q: np.ndarray) -> np.ndarray:
    """Independent forward kinematics from the modified DH table."""
    pose = np.eye(4)
    rows = [(a, d, alpha, q[i]) for i, (a, d, alpha) in enumerate(mjcf.DH)]
    rows.append((0.0, mjcf.FLANGE_OFFSET + mjcf.TCP_OFFSET, 0.0, mjcf.HAND_YAW))
    for a, d, alpha, theta in rows:
        ct, st, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array(
            [
                [ct, -st, 0, a],
                [st * ca, ct * ca, -sa, -d * sa],
                [st * sa, ct * sa, ca, d * ca],
                [0, 0, 0, 1],
            ]
        )
    return pose


def _random_joints(count: int) -> np.ndarray:
    low, high = np.array(mjcf.JOINT_LIMITS).T
    return np.random.default_rng(0).uniform(low, high, (count, 7))


def test_forward_kinematics_is_frankas_dh_table(world: World) -> None:
    scene = draw_scene(0)
    for q in _random_joints(50):
        world.reset(replace(scene, start_joints=tuple(q)))
        np.testing.assert_allclose(world.tcp_pose, _dh_forward(q), atol=1e-9)


@pytest.mark.skipif(not URDF.exists(), reason="no URDF in this checkout")
def test_forward_kinematics_is_the_urdfs(world: World) -> None:
    pin = pytest.importorskip("pinocchio")
    model = pin.buildModelFromUrdf(str(URDF))
    data = model.createData()
    frame = model.getFrameId("fr3_hand_tcp")
    assert frame < model.nframes
    scene = draw_scene(0)
    for q in _random_joints(50):
        full = pin.neutral(model)
        for name, value in zip(mjcf.JOINT_NAMES, q, strict=True):
            full[model.joints[model.getJointId(name)].idx_q] = value
        pin.framesForwardKinematics(model, data, full)
        world.reset(replace(scene, start_joints=tuple(q)))
        np.testing.assert_allclose(world.tcp_pose, data.oMf[frame].homogeneous, atol=1e-6)


def test_servo_follows_without_overshoot(world: World) -> None:
    world.reset(replace(draw_scene(0), start_joints=HOME_JOINTS))
    start = world.joint_positions
    world.command_joints(start + 0.1)
    progress = []
    for _ in range(50):
        world.step(5)
        progress.append((world.joint_positions - start) / 0.1)
    trace = np.array(progress)
    assert trace.max() < 1.02
    assert (trace[-1] > 0.99).all()
    # First-order lag of some tens of milliseconds: 63 % is reached between 20 and 80 ms.
    lag = (trace > 0.632).argmax(axis=0) * 5 * world.timestep
    assert ((lag > 0.02) & (lag < 0.08)).all()


def test_blocks_rest_and_the_arm_holds_against_gravity(world: World) -> None:
    world.reset(draw_scene(1))
    before, heights = world.joint_positions, world.block_heights()
    world.step(500)
    np.testing.assert_allclose(world.joint_positions, before, atol=1e-4)
    np.testing.assert_allclose(world.block_heights(), heights, atol=5e-4)


def test_gripper_closes_at_the_hands_speed(world: World) -> None:
    world.reset(draw_scene(1))
    world.command_gripper(0.0, 40.0)
    world.step(round(0.5 / world.timestep))
    assert world.gripper_width == pytest.approx(0.03, abs=0.006)
    world.step(round(0.5 / world.timestep))
    assert world.gripper_width == pytest.approx(0.0, abs=1e-3)


def test_a_gripped_block_is_held_and_its_width_is_measured(world: World) -> None:
    scene = replace(draw_scene(1), start_joints=HOME_JOINTS)
    world.reset(scene)
    tcp = world.tcp_pose
    world.place_block(0, tcp[:3, 3], (1, 0, 0, 0))
    world.command_gripper(0.0, 40.0)
    # The block floats between the fingers until they meet it.
    while world.gripper_width > 0.0405 and world.time < 1.0:
        world.place_block(0, tcp[:3, 3], (1, 0, 0, 0))
        world.step()
    world.step(500)
    assert world.gripper_width == pytest.approx(0.04, abs=1.5e-3)
    assert world.block_heights()[0] == pytest.approx(tcp[2, 3], abs=0.005)
    world.command_gripper(0.08, 40.0)
    world.step(500)
    assert world.block_heights()[0] < 0.05


def test_same_commands_give_the_same_trajectory(world: World) -> None:
    runs = []
    for _ in range(2):
        world.reset(draw_scene(5))
        world.command_joints(world.joint_positions + 0.05)
        world.step(200)
        runs.append(world.joint_positions)
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.fixture
def rendering(world: World) -> World:
    world.reset(replace(draw_scene(2), start_joints=HOME_JOINTS))
    try:
        world.render("front")
    except RenderingUnavailableError as error:
        pytest.skip(str(error))
    return world


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_block_appears_where_the_intrinsics_say(rendering: World, camera: str) -> None:
    info = rendering.camera_info(camera)
    seen = 0
    for i in range(3):
        point = np.linalg.inv(rendering.camera_pose(camera)) @ rendering.block_pose(i)[:, 3]
        u = info.fx * point[0] / point[2] + info.cx
        v = info.fy * point[1] / point[2] + info.cy
        if not (20 < u < info.width - 20 and 20 < v < info.height - 150):
            continue
        seen += 1
        before = rendering.render(camera).astype(int)
        pose = rendering.block_pose(i)
        rendering.place_block(i, (0, 0, -0.5), (1, 0, 0, 0))
        after = rendering.render(camera).astype(int)
        rendering.place_block(i, pose[:3, 3], (1, 0, 0, 0))
        rows, columns = np.nonzero(np.abs(before - after).sum(axis=2) > 60)
        assert rows.mean() == pytest.approx(v, abs=6)
        assert columns.mean() == pytest.approx(u, abs=6)
    assert seen >= 1


def test_front_camera_sees_the_whole_work_area(world: World) -> None:
    info = world.camera_info("front")
    for x in (0.36, 0.64):
        for y in (-0.24, 0.24):
            point = np.linalg.inv(world.camera_pose("front")) @ np.array([x, y, 0.02, 1.0])
            assert 0 < info.fx * point[0] / point[2] + info.cx < info.width
            assert 0 < info.fy * point[1] / point[2] + info.cy < info.height


def test_images_are_rgb_uint8(rendering: World) -> None:
    image = rendering.render("front")
    assert image.shape == (480, 640, 3) and image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert rendering.render("wrist").std() > 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start_joints": (9.0, *HOME_JOINTS[1:])}, "fr3_joint1"),
        ({"start_joints": HOME_JOINTS[:6]}, "7 finite"),
        ({"blocks": ()}, "0 blocks"),
    ],
)
def test_impossible_scenes_are_refused(world: World, change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        world.reset(replace(draw_scene(0), **change))


def test_bad_commands_are_refused(world: World) -> None:
    world.reset(draw_scene(0))
    with pytest.raises(ValueError, match="finite"):
        world.command_joints(np.full(7, np.nan))
    with pytest.raises(ValueError, match="gripper"):
        world.command_gripper(float("nan"), 10.0)
    with pytest.raises(ValueError, match="unknown camera 'top'"):
        world.render("top")


def test_physics_needs_no_opengl_and_rendering_says_what_to_install() -> None:
    code = (
        "import ctypes.util, sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'OpenGL': raise ImportError('no OpenGL here')\n"
        "sys.meta_path.insert(0, Block())\n"
        "from vla_ros.sim.world import World\n"
        "from vla_ros.sim.task import draw_scene\n"
        "w = World(); w.reset(draw_scene(0)); w.step(10); print('stepped', w.time)\n"
        "w.render('front')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "stepped 0.02" in result.stdout
    assert "RenderingUnavailableError" in result.stderr
    assert "apt-get install libegl1 libgl1-mesa-dri" in result.stderr
