"""The robot YAML as a JSON Schema, by which editors complete and check it while it is typed.

Draft 7, which is what yaml-language-server (the YAML support of VS Code, Neovim, Emacs, ...) reads in full.
It says what single keys may be; what must hold between them, and against the URDF, `load_robot` checks.

`python -m vla_ros.robot.schema` writes it to robot_configs/schema/robot.schema.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_ros.robot.config import Robot
from vla_ros.robot.inherit import EXTENDS

FILE = Path(__file__).resolve().parents[2] / "robot_configs" / "schema" / "robot.schema.json"
DRAFT = "http://json-schema.org/draft-07/schema#"
_PARTIAL = "Part"
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_EXTENDS = {
    "type": "string",
    "minLength": 1,
    "description": "Another robot YAML, relative to this file. Its keys hold where this file does not say "
    "otherwise; null takes one out. Only one level deep.",
}


def robot_schema() -> dict[str, Any]:
    """The schema of a whole robot YAML, or, where it has `extends`, of any part of one."""
    source = Robot.model_json_schema()
    models = {**source.pop("$defs"), "Robot": source}
    definitions: dict[str, Any] = {}
    for name, model in sorted(models.items()):
        definitions[name] = draft7(model, partial=False)
        definitions[name + _PARTIAL] = {**draft7(model, partial=True), "type": ["object", "null"]}
    whole = definitions["Robot" + _PARTIAL]
    whole["properties"] = {EXTENDS: _EXTENDS, **whole["properties"]}
    whole |= {"required": [EXTENDS, "name"], "type": "object"}
    return {
        "$schema": DRAFT,
        "title": "A robot of vla_ros",
        "if": {"type": "object", "required": [EXTENDS]},
        "then": {"$ref": f"#/definitions/Robot{_PARTIAL}"},
        "else": {"$ref": "#/definitions/Robot"},
        "definitions": definitions,
    }


def schema_text() -> str:
    """What robot_configs/schema/robot.schema.json holds."""
    return json.dumps(robot_schema(), indent=1, ensure_ascii=False) + "\n"


def draft7(schema: Any, partial: bool) -> Any:
    """pydantic's schema (draft 2020-12) in draft 7; partial: of a part that lies over another file's."""
    if isinstance(schema, list):
        return [draft7(item, partial) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    # Releases of pydantic differ in what they wrap, repeat and write as 1.0.
    if len(schema.get("allOf", [])) == 1:
        schema = schema["allOf"][0]
    if "$ref" in schema:
        # Beside $ref, draft 7 ignores everything.
        name = str(schema["$ref"]).rsplit("/", 1)[1]
        return {"$ref": f"#/definitions/{name}{_PARTIAL if partial else ''}"}
    other = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    if partial and len(other) == 1 and "$ref" in other[0]:
        return draft7(other[0], partial)
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "unit":
            result["description"] = f"in {value}"
        elif key == "expected":
            result["description"] = value
        elif key in ("properties", "patternProperties"):
            result[key] = {name: _value(inner, partial) for name, inner in value.items()}
        elif key == "additionalProperties" and isinstance(value, Mapping):
            result[key] = _value(value, partial)
        elif key == "prefixItems":
            # A list replaces a list as a whole: nothing in it may be left out.
            result["items"] = draft7(value, False)
        elif key == "items":
            result.setdefault("items", draft7(value, False))
        elif key == "default":
            result[key] = value
        elif key in _BOUNDS:
            result[key] = int(value) if value == int(value) else value
        elif key in ("type", "enum") and "const" in schema:
            continue
        elif key not in ("title", "propertyNames") and not (partial and key in ("required", "minProperties")):
            result[key] = draft7(value, partial)
    if schema.get("patternProperties") and "additionalProperties" not in schema:
        result["additionalProperties"] = False
    return result


def _value(schema: Any, partial: bool) -> Any:
    """The value of a key: in a part of a file, null takes out what the extended file has."""
    inner = draft7(schema, partial)
    if not partial or "$ref" in inner or {"type": "null"} in inner.get("anyOf", []):
        return inner  # what is referred to takes null itself
    if "type" in inner and not inner.keys() & {"const", "enum"}:
        return {**inner, "type": [inner["type"], "null"]}
    return {"anyOf": [inner, {"type": "null"}]}


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(schema_text(), encoding="utf-8")
