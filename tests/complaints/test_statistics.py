"""Statistics or a convention of another robot never move the arm without a word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_bundle import bundle_files, franka_fields, manifest_fields, statistics, write_tiny_bundle
from vla_ros.action.decode import decode
from vla_ros.action.normalise import denormalise
from vla_ros.errors import BundleError, ContractError, Refused
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.contract import require
from vla_ros.robot.config import Robot
from vla_ros.types import Observation, RawChunk

FRANKA = Robot.model_validate(franka_fields())
POSE = np.array([0.4, 0.0, 0.4, 1.0, 0.0, 0.0, 0.0])


def with_statistics(folder: Path, change) -> Bundle:
    fields = manifest_fields()
    content = statistics(fields)
    change(content)
    files = {**bundle_files(fields), "dataset_statistics.json": json.dumps(content).encode()}
    return write_bundle(folder, fields, files)


def of_another_robot(content: dict) -> None:
    """A second data set in the same file, as generalist checkpoints have them."""
    action = content["tiny"]["action"]
    wide = {"q01": [-1.0] * 10, "q99": [1.0] * 10, "mask": action["mask"]}
    content["bridge_orig"] = {"action": wide, "proprio": content["tiny"]["proprio"]}


@pytest.mark.complaint("openvla 21", "openvla 192")
def test_the_data_set_s_statistics_are_declared_and_never_chosen_on_the_robot(tmp_path: Path) -> None:
    """There, whoever ran the policy picked the `unnorm_key`, and each one that exists is accepted."""
    bundle = with_statistics(tmp_path / "several", of_another_robot)
    ones = np.ones((1, 10))
    own = denormalise(ones, bundle.action)
    assert own[0, 0] == pytest.approx(0.05)

    def forget_our_own(content: dict) -> None:
        of_another_robot(content)
        del content["tiny"]

    says = r"no key 'tiny' \(normalisation.action.key in policy.yaml\).*bridge_orig"
    with pytest.raises(BundleError, match=says):
        with_statistics(tmp_path / "without", forget_our_own)


@pytest.mark.complaint("openvla 248")
def test_a_robot_the_policy_has_no_statistics_for_is_refused(tmp_path: Path) -> None:
    """There, a policy ran on an arm that it was never trained on with whatever statistics were at hand."""
    bundle = write_tiny_bundle(tmp_path, embodiment="widowx_250s")
    with pytest.raises(ContractError, match="trained for embodiment 'widowx_250s'; robot 'franka' is"):
        require(bundle, FRANKA)


@pytest.mark.complaint("openpi 414")
def test_statistics_from_another_run_are_refused(tmp_path: Path) -> None:
    """A file of the right form with other numbers: its checksum was not written by this export."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    file = bundle.path("dataset_statistics.json")
    content = json.loads(file.read_text())
    content["tiny"]["action"]["q99"][0] *= 2
    file.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"dataset_statistics\.json: truncated or altered"):
        from vla_ros.policy.bundle import load_bundle

        load_bundle(bundle.directory)


@pytest.mark.complaint("openpi 414")
def test_a_relative_and_an_absolute_policy_are_decoded_as_each_declares(tmp_path: Path) -> None:
    """There, whether actions are deltas is a flag of the training configuration that inference must repeat.
    Here the same numbers mean what the bundle says, and a bundle that does not say it does not load."""
    targets = {}
    for reference in ("eef_relative", "absolute"):
        fields = manifest_fields()
        for part in fields["outputs"]["action"][:2]:
            part["reference"] = reference
        bundle = write_tiny_bundle(tmp_path / reference, **fields)
        raw = np.zeros((16, 10), np.float32)
        raw[:, [3, 7]] = 1.0
        observation = Observation({}, {"arm/tcp_pose": POSE}, "", {}, 10**18)
        chunk = decode(RawChunk(raw), observation, bundle.manifest, bundle.action, FRANKA)
        targets[reference] = chunk.targets[0, chunk.channels.index("arm/tcp/position.x")]
    assert targets["eef_relative"] == pytest.approx(0.4)
    assert targets["absolute"] == pytest.approx(0.0)
    fields = manifest_fields()
    del fields["outputs"]["action"][0]["reference"]
    with pytest.raises(BundleError, match="reference: tcp_position needs one of absolute, world_rel"):
        write_tiny_bundle(tmp_path / "silent", **fields)


@pytest.mark.complaint("openpi 839")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s["q01"].__setitem__(0, float("nan")), "not finite"),
        (lambda s: s["q99"].__setitem__(2, s["q01"][2]), "index 2: q99 .* is not above q01"),
        (lambda s: s.update(mask=s["mask"][:9]), r"mask: found .* expected true or false, 10 times"),
        (lambda s: s.update({key: values[:9] for key, values in s.items()}), "has 9 values"),
    ],
)
def test_statistics_that_were_computed_wrongly_are_named(tmp_path: Path, change, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        with_statistics(tmp_path, lambda content: change(content["tiny"]["action"]))


@pytest.mark.complaint("openpi 839")
def test_a_network_output_of_another_convention_is_refused_with_its_reason(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    observation = Observation({}, {"arm/tcp_pose": POSE}, "", {}, 10**18)
    for values in (np.zeros((16, 7), np.float32), np.zeros((8, 10), np.float32)):
        with pytest.raises(Refused, match="the manifest declares") as caught:
            decode(RawChunk(values), observation, bundle.manifest, bundle.action, FRANKA)
        assert caught.value.reason == "shape"


@pytest.mark.complaint("openpi 414", "openpi 839")
@pytest.mark.parametrize(
    ("group", "column", "values", "says"),
    [
        (
            "proprio",
            9,
            (0.0, 80.0),
            r"state arm.gripper: value 0 spans 0 to 80, but must lie within .* m",
        ),
        ("proprio", 9, (-0.3, 0.05), "state arm.gripper: value 0 spans -0.3 to 0.05"),
        ("proprio", 0, (200.0, 700.0), "state arm.tcp_position: value 0 spans 200 to 700"),
        ("action", 1, (-50.0, 50.0), "action arm.tcp_position: value 1 spans -50 to 50"),
        ("action", 5, (-57.3, 57.3), "action arm.tcp_rotation: value 2 spans"),
        ("action", 9, (-0.35, 1.0), "action arm.gripper: value 0 spans -0.35 to 1"),
    ],
)
def test_statistics_that_this_robot_cannot_have_are_refused(
    tmp_path: Path, group, column, values, says
) -> None:
    """Millimetres, degrees, or a gripper that is mostly negative: there, such statistics are simply used."""

    def change(content: dict) -> None:
        part = content["tiny"][group]
        part["q01"][column], part["q99"][column] = values

    with pytest.raises(ContractError, match=says):
        require(with_statistics(tmp_path, change), FRANKA)


@pytest.mark.complaint("openpi 414")
def test_joint_statistics_in_degrees_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = manifest_fields()
    joints = {"arm": "arm", "signal": "joint_position", "size": 7}
    fields["inputs"]["state"] = [joints]
    fields["outputs"]["action"] = [{**joints, "reference": "absolute"}]
    low, high = np.array(FRANKA.arms["arm"].limits.position).T
    for unit, degrees in (("rad", 1.0), ("deg", 180 / np.pi)):
        values = {"q01": (degrees * low).tolist(), "q99": (degrees * high).tolist(), "mask": [True] * 7}
        content = {"tiny": {"action": values, "proprio": values}}
        monkeypatch.setattr("tests.tiny_bundle.statistics", lambda _, content=content: content)
        bundle = write_tiny_bundle(tmp_path / unit, **fields)
        if unit == "rad":
            require(bundle, FRANKA)
        else:
            with pytest.raises(ContractError, match=r"state arm.joint_position: value 0 spans -15.*rad"):
                require(bundle, FRANKA)
