"""The bundle in this repository, as a user gets it."""

from __future__ import annotations

import pytest

from vla_ros.policy.bundle import Bundle, load_bundle
from vla_ros.policy.contract import match
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.parity import run_parity
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.resources import policy_bundle, robot_config
from vla_ros.robot.load import load_robot


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(policy_bundle("franka_pick"))


def test_it_fits_the_franka(bundle: Bundle) -> None:
    assert all(line.ok for line in match(bundle, load_robot(robot_config("franka"))))


def test_parity_holds_on_this_machine(bundle: Bundle) -> None:
    result = run_parity(bundle, OnnxPolicy(bundle))
    assert result.ok, result
    assert result.cosine > 0.999


def test_it_is_small(bundle: Bundle) -> None:
    size = sum(file.stat().st_size for file in bundle.directory.iterdir())
    assert size <= 25_000_000


@pytest.mark.parametrize("colour", ["red", "green", "blue", "yellow", "purple", "orange"])
def test_it_knows_the_colours(bundle: Bundle, colour: str) -> None:
    preprocessor = Preprocessor(bundle, load_robot(robot_config("franka")))
    plain = preprocessor.tokens("pick up the block")
    named = preprocessor.tokens(f"pick up the {colour} block")
    other = preprocessor.tokens("pick up the nonsense block")
    assert not (named == plain).all()
    assert not (named == other).all()
