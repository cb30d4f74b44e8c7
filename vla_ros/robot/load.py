"""The way into a robot YAML: every mistake at once, each with file, line and key."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from vla_ros.errors import ConfigError, KinematicsError
from vla_ros.robot.checks import consistency_problems
from vla_ros.robot.checks_urdf import description_problems, distance_problems
from vla_ros.robot.config import Arm, Robot
from vla_ros.robot.inherit import read_robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.schema_words import schema_problem, unfilled_problems
from vla_ros.robot.yaml_lines import Problem, key_text


def load_robot(path: str | Path) -> Robot:
    """Read and check a robot YAML, with what it extends and together with the URDF of each arm.

    Raises ConfigError whose text has one line per mistake,
    `file:line: key: found X; expected Y; do Z`: first those of single keys, and once there are none
    those between keys and against the URDF.
    """
    document = read_robot(Path(path))
    robot: Robot | None = None
    problems = [*document.problems, *unfilled_problems(document)]
    try:
        # Strict JSON rules: no text where a number belongs, no true for 1, no 1.0 for 1.
        robot = Robot.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        known = [problem.path for problem in problems]
        for detail in error.errors(include_url=False):
            problem = schema_problem(document, detail)
            if problem.path not in known:
                problems.append(problem)
    document.raise_problems(problems)
    assert robot is not None  # a ValidationError is never without details
    document.raise_problems(consistency_problems(robot))
    descriptions: dict[str, str] = {}
    for name, arm in robot.arms.items():
        try:
            xml = read_urdf(document.file, arm)
        except ConfigError as error:
            problems.append(Problem(("arms", name, "urdf"), str(error), "a URDF file", "correct the path"))
            continue
        descriptions[name] = xml
        problems += description_problems(robot, name, xml, f"the URDF {arm.urdf}")
    document.raise_problems(problems)
    if len(robot.arms) > 1:
        kinematics = {
            name: Kinematics(descriptions[name], arm.joints, arm.base_frame, arm.tool_frame)
            for name, arm in robot.arms.items()
        }
        document.raise_problems(distance_problems(robot, kinematics))
    return robot


def read_urdf(robot_path: str | Path, arm: Arm) -> str:
    """Text of the arm's URDF; its path is relative to the robot YAML.

    Raises ConfigError if the file cannot be read.
    """
    file = Path(robot_path).parent / arm.urdf
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"'{arm.urdf}', but there is no file {file}") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"'{arm.urdf}', but {file} cannot be read ({error})") from None


def check_description(robot: Robot, name: str, xml: str) -> None:
    """Check arm `name` against a URDF that arrived on its `robot_description` topic.

    Raises KinematicsError with one line per mistake.
    """
    topic = robot.arms[name].robot_description
    problems = description_problems(robot, name, xml, f"the URDF on {topic}")
    if problems:
        raise KinematicsError(
            "\n".join(
                f"{topic}: {key_text(problem.path)}: found {problem.found}; "
                f"expected {problem.expected}; {problem.do}"
                for problem in problems
            )
        )
