"""Kinematics of every shipped arm against chains written independently from the vendors' documentation."""

from __future__ import annotations

import numpy as np
import pytest

from tests.robot.vendor_chains import CHAINS, URDFS, Chain
from vla_ros.robot.kinematics import Kinematics

ARMS = [pytest.param(chain, id=name) for name, chain in CHAINS.items()]


def test_every_shipped_urdf_has_an_independent_chain() -> None:
    assert {chain.file for chain in CHAINS.values()} == {file.name for file in URDFS.glob("*.urdf")}


@pytest.mark.parametrize("chain", ARMS)
def test_forward_is_the_independent_chain(chain: Chain) -> None:
    arm = chain.kinematics()
    rng = np.random.default_rng(0)
    for q in rng.uniform(arm.lower, arm.upper, (100, len(arm.joints))):
        np.testing.assert_allclose(arm.forward(q), chain.forward(q), atol=1e-9)


def degrees(*values: float) -> list[float]:
    return np.radians(values).tolist()


# Interbotix keeps 10 microrad from half a turn.
HALF = np.pi - 1e-5
LIMITS = {
    "vx300s": (
        [-HALF, *degrees(-106, -101), -HALF, *degrees(-107), -HALF],
        [HALF, *degrees(72, 92), HALF, *degrees(128), HALF],
        [np.pi] * 6,
    ),
    "wx250s": (
        [-HALF, *degrees(-108, -123), -HALF, *degrees(-100), -HALF],
        [HALF, *degrees(114, 92), HALF, *degrees(123), HALF],
        [np.pi] * 6,
    ),
    "piper": (
        [-2.618, 0.0, -2.967, -1.745, -1.22, -2.0944],
        [2.618, 3.14, 0.0, 1.745, 1.22, 2.0944],
        [3.0] * 6,
    ),
    "kinova_gen3": (
        [-2 * np.pi, -2.24, -2 * np.pi, -2.57, -2 * np.pi, -2.09, -2 * np.pi],
        [2 * np.pi, 2.24, 2 * np.pi, 2.57, 2 * np.pi, 2.09, 2 * np.pi],
        [1.3963] * 4 + [1.2218] * 3,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_the_vendors(name: str) -> None:
    arm = CHAINS[name].kinematics()
    lower, upper, velocity = LIMITS[name]
    np.testing.assert_allclose(arm.lower, lower, atol=1e-12)
    np.testing.assert_allclose(arm.upper, upper, atol=1e-12)
    np.testing.assert_allclose(arm.velocity, velocity, atol=1e-12)


def test_the_cobots_arm_is_the_piper_under_other_names() -> None:
    """The two files differ in nothing but the robot's and the joints' names, and the comment."""
    one = (URDFS / "piper.urdf").read_text(encoding="utf-8").split("-->")[1]
    other = (URDFS / "piper_cobot.urdf").read_text(encoding="utf-8").split("-->")[1]
    renamed = other.replace('"joint6"', '"gripper"').replace('"piper_cobot"', '"piper"')
    for index in reversed(range(6)):
        renamed = renamed.replace(f'"joint{index}"', f'"joint{index + 1}"')
    assert renamed == one


def test_the_piper_reports_its_flange() -> None:
    """With all joints at zero the arm says 56.128, 0, 213.266 mm and 85 degrees of pitch (piper_fk.py)."""
    chain = CHAINS["piper"]
    urdf = (URDFS / chain.file).read_text(encoding="utf-8")
    pose = Kinematics(urdf, chain.joints, "base_link", "link6").forward(np.zeros(6))
    np.testing.assert_allclose(pose[:3, 3], [0.056128, 0.0, 0.213266], atol=1e-6)
    pitch = np.radians(85.0)
    expected = [[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]]
    np.testing.assert_allclose(pose[:3, :3], expected, atol=1e-9)


@pytest.mark.parametrize("chain", ARMS)
def test_shapes_are_primitive(chain: Chain) -> None:
    text = (URDFS / chain.file).read_text(encoding="utf-8")
    assert "<mesh" not in text and "package://" not in text
    assert "<visual>" in text
