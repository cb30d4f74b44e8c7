"""A bundle's policy.yaml as a JSON Schema (draft 7), by which editors complete and check it.

It says what single keys may be; what must hold between them, and of the files, `load_bundle` checks.

`python -m vla_ros.policy.schema` writes it to policies/schema/policy.schema.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vla_ros.policy.manifest import Manifest
from vla_ros.robot.schema import DRAFT, draft7

FILE = Path(__file__).resolve().parents[2] / "policies" / "schema" / "policy.schema.json"


def policy_schema() -> dict[str, Any]:
    """The schema of a whole policy.yaml."""
    source = Manifest.model_json_schema()
    # Which sampler it is, `kind` says in each of them; this is OpenAPI's word for it.
    del source["properties"]["sampler"]["discriminator"]
    models = source.pop("$defs")
    return {
        "$schema": DRAFT,
        "title": "A policy of vla_ros",
        **draft7(source, partial=False),
        "definitions": {name: draft7(model, partial=False) for name, model in sorted(models.items())},
    }


def schema_text() -> str:
    """What policies/schema/policy.schema.json holds."""
    return json.dumps(policy_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(schema_text(), encoding="utf-8")
