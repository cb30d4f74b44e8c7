from __future__ import annotations

from pathlib import Path

import pytest

from vla_ros import resources
from vla_ros.errors import BundleError, ConfigError


def test_a_robot_is_found_by_name_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resources.robot_config("franka").name == "franka.yaml"


def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "franka.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert resources.robot_config("./franka.yaml") == tmp_path / "franka.yaml"
    assert resources.robot_config("franka.yaml") == tmp_path / "franka.yaml"
    assert resources.robot_config(tmp_path / "franka.yaml") == tmp_path / "franka.yaml"


@pytest.mark.parametrize("name", ["frank", "./frank.yaml", "frank.yaml"])
def test_an_unknown_robot_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=r"frank.*franka"):
        resources.robot_config(name)


def bundle(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "policy.yaml").touch()
    return folder


def test_bundles_and_robots_of_a_colcon_install_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = tmp_path / "install" / "vla_ros" / "share" / "vla_ros"
    (share / "robot_configs").mkdir(parents=True)
    (share / "robot_configs" / "mine.yaml").touch()
    found = bundle(share / "policies" / "pour")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/opt/ros/nowhere:{tmp_path / 'install' / 'vla_ros'}")
    assert resources.robot_config("mine") == share / "robot_configs" / "mine.yaml"
    assert resources.policy_bundle("pour") == found
    assert resources.policy_bundle("policies/pour") == found


def test_a_bundle_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bundle(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert resources.policy_bundle("here") == found
    assert resources.policy_bundle("./here") == found
    assert resources.policy_bundle(found) == found


def test_an_unknown_bundle_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pour", "./pour", str(tmp_path / "pour")):
        with pytest.raises(BundleError, match=r"no such folder .looked from .*policy\.yaml"):
            resources.policy_bundle(name)
