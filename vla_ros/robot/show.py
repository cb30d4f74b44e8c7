"""The effective robot: what `extends` and the defaults leave to be guessed, written out."""

from __future__ import annotations

from pathlib import Path

import yaml

from vla_ros.robot.config import Robot


def effective_yaml(robot: Robot, path: str | Path) -> str:
    """A robot YAML that says everything itself and loads as the same robot, wherever it is put.

    robot: from `load_robot(path)`. URDF paths become absolute; keys that are not set are left out.
    """
    fields = robot.model_dump(mode="json", exclude_none=True)
    folder = Path(path).resolve().parent
    for arm in fields["arms"].values():
        arm["urdf"] = str(folder / arm["urdf"])
    return yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Lists of plain values in one line, as a person would write them."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_sequence(
        self, tag: str, sequence: object, flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        assert isinstance(sequence, list)
        flow = not any(isinstance(item, (list, dict)) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flow)
