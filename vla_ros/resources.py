"""Where robot configurations and policy bundles lie, in every kind of install.

A name is looked up in the folders of `roots()`; anything that looks like a path is taken as one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vla_ros.errors import BundleError, ConfigError

PACKAGE = Path(__file__).resolve().parent


def roots() -> list[Path]:
    """Folders that may hold `robot_configs/` and `policies/`: the checkout, then each `share/vla_ros`.

    The checkout counts for `pip install -e` and `colcon build --symlink-install` too; a colcon install is
    found through AMENT_PREFIX_PATH, a pip install beside the site-packages that this module lies in.
    """
    candidates = [PACKAGE.parent]
    prefixes = [Path(entry) for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    prefixes += [PACKAGE.parents[3], Path(sys.prefix)] if len(PACKAGE.parents) > 3 else [Path(sys.prefix)]
    candidates += [prefix / "share" / "vla_ros" for prefix in prefixes]
    found = [root for root in candidates if (root / "robot_configs").is_dir()]
    return list(dict.fromkeys(found))


def _looks_like_path(name_or_path: str | Path) -> bool:
    return isinstance(name_or_path, Path) or os.sep in name_or_path or name_or_path.startswith((".", "~"))


def _known(folder: str, pattern: str) -> list[str]:
    return sorted({path.stem for root in roots() for path in (root / folder).glob(pattern)})


def robot_config(name_or_path: str | Path) -> Path:
    """Path of a robot YAML, from a name such as `franka` or from a path.

    Raises ConfigError when there is none, naming the robots that are there.
    """
    name = str(name_or_path)
    if _looks_like_path(name_or_path) or name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if path.is_file():
            return path.resolve()
        raise ConfigError(
            f"robot configuration {path}: no such file (looked from {Path.cwd()}); give the path of a robot "
            f"YAML, or one of the names {', '.join(_known('robot_configs', '*.yaml'))}"
        )
    for root in roots():
        path = root / "robot_configs" / f"{name}.yaml"
        if path.is_file():
            return path
    raise ConfigError(
        f"robot {name!r}: not known; known are {', '.join(_known('robot_configs', '*.yaml')) or 'none'}. "
        f"For a robot of your own give the path of its YAML, for instance ./{name}.yaml"
    )


def policy_bundle(name_or_path: str | Path) -> Path:
    """Path of a policy bundle's folder, from a name such as `franka_pick` or from a path.

    Raises BundleError when there is none. What the folder holds is checked where it is loaded.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir() and (_looks_like_path(name_or_path) or (path / "policy.yaml").is_file()):
        return path.resolve()
    if not path.is_absolute():
        # `franka_pick` and `policies/franka_pick` mean the same bundle from whatever folder.
        for root in roots():
            for found in (root / "policies" / path, root / path):
                if (found / "policy.yaml").is_file():
                    return found
    known = sorted({found.parent.name for root in roots() for found in root.glob("policies/*/policy.yaml")})
    raise BundleError(
        f"policy bundle {str(name_or_path)!r}: no such folder (looked from {Path.cwd()}); give the path of "
        f"a folder with a policy.yaml, or one of the names {', '.join(known) or '(none installed)'}"
    )
