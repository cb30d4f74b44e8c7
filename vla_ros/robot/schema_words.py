"""The robot YAML's schema in words: what a mistake found, what was expected, what to do."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from vla_ros.robot.config import Robot
from vla_ros.robot.words import advice, quoted
from vla_ros.robot.yaml_lines import Document, KeyPath, Problem, key_text

# What `vla robot new` writes where a person has to fill something in.
TODO = "TODO"


def schema_problem(document: Document, detail: Mapping[str, Any]) -> Problem:
    """One pydantic error (an entry of `ValidationError.errors()`) in our words."""
    location = tuple(detail["loc"])
    kind = detail["type"]
    if location and location[-1] == "[key]":
        wanted = expected(_property_names(schema_at(location[:-2])))
        return Problem(location[:-1], f"the name '{location[-2]}'", wanted, "rename it")
    schema = schema_at(location)
    if kind == "extra_forbidden":
        keys = list(schema_at(location[:-1]).get("properties", {}))
        wrong = str(location[-1])
        return Problem(
            location,
            f"the unknown key '{wrong}'",
            f"one of {', '.join(keys)}",
            advice(wrong, keys, "remove it"),
        )
    if kind == "missing":
        if isinstance(location[-1], int):
            return Problem(
                location[:-1],
                f"{location[-1]} values",
                expected(schema_at(location[:-1])),
                "give that many values",
            )
        around = key_text(location[:-1]) or "the file's other keys"
        return Problem(location, "nothing", expected(schema), f"add {location[-1]}: to {around}")
    found = _found(document, location, detail["input"])
    return Problem(location, found, expected(schema), _remedy(schema, detail["input"], document, location))


def unfilled_problems(document: Document) -> list[Problem]:
    """The places that `vla robot new` left open, because no URDF can tell."""
    return [
        Problem(path, TODO, expected(schema_at(path)) if schema_at(path) else "a value", "fill it in")
        for path, text in document.written.items()
        if text == TODO
    ]


def _found(document: Document, path: KeyPath, value: Any) -> str:
    written = document.written.get(path)
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{written} (true or false)"
    if isinstance(value, str):
        # In one line, whatever the text.
        return f"'{' '.join(value.splitlines())}'" if value else "empty text"
    if isinstance(value, dict):
        return "a block of keys" if value else "an empty block"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return str(written if written is not None else value)


def _remedy(schema: Mapping[str, Any], value: Any, document: Document, path: KeyPath) -> str:
    kind, unit = schema.get("type"), schema.get("unit")
    if "const" in schema:
        return f"write {schema['const']!r}"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, bool) and kind == "string":
        return f"put it in quotes: '{document.written.get(path)}'"
    if kind in ("number", "integer") and isinstance(value, str):
        with contextlib.suppress(ValueError):
            if math.isfinite(float(value)):
                return f"write the number plainly: {float(value)!r}"
        return "write a number"
    if kind in ("number", "integer") and number:
        size = abs(float(value))
        if "enum" in schema:
            return "choose one"
        if kind == "integer" and size != int(size):
            return "write a whole number"
        if unit == "rad" and size > 2 * math.pi:
            return f"write radians, not degrees: {value:g} deg is {math.radians(value):.4g} rad"
        if unit == "ms" and size < 1:
            return f"write milliseconds, not seconds: {value:g} s is {value * 1000:g} ms"
        if unit == "m" and size > 1:
            return f"write metres, not millimetres: {value:g} mm is {value / 1000:g} m"
        if unit == "rad/s" and size > schema["maximum"]:
            return f"write rad/s, not degrees/s: {value:g} deg/s is {math.radians(value):.4g} rad/s"
        if unit == "m/s" and size > schema["maximum"]:
            return f"write m/s, not mm/s: {value:g} mm/s is {value / 1000:g} m/s"
        return "write a value in that range"
    if kind in ("number", "integer"):
        return "write a number"
    if kind == "boolean":
        return "write true or false"
    if kind == "array":
        return "write a list in [ ]" if not isinstance(value, list) else "give that many values"
    if kind == "object":
        return "write a block of keys, indented"
    options = schema.get("enum")
    if options and isinstance(value, str):
        return advice(value, options, "choose one")
    return "correct it"


def expected(schema: Mapping[str, Any]) -> str:
    """What a JSON schema asks for, in words."""
    if "expected" in schema:
        return str(schema["expected"])
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        options = schema["enum"]
        numbers = all(isinstance(option, int) for option in options)
        return f"one of {', '.join(map(str, options)) if numbers else quoted(options)}"
    kind = schema.get("type")
    if kind in ("number", "integer"):
        text = "a number" if kind == "number" else "a whole number"
        if "exclusiveMinimum" in schema:
            text += f" above {schema['exclusiveMinimum']:g}"
        if "minimum" in schema:
            text += f" from {schema['minimum']:g}"
        if "maximum" in schema:
            text += f" to {schema['maximum']:g}" if "minimum" in schema else f" up to {schema['maximum']:g}"
        return text + (f" in {schema['unit']}" if "unit" in schema else "")
    if kind == "array":
        items = schema.get("prefixItems")
        if items:
            return f"a list of {len(items)}, each {expected(items[0])}"
        return f"a list, each {expected(_resolve(schema['items']))}"
    if kind == "object":
        if "properties" in schema:
            return f"the keys {', '.join(schema['properties'])}"
        return "a block with at least one name" if schema.get("minProperties") else "a block of names"
    return "true or false" if kind == "boolean" else "text"


@cache
def _root_schema() -> dict[str, Any]:
    return Robot.model_json_schema()


def _resolve(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference, and look through `| None`."""
    while True:
        if "$ref" in schema:
            schema = _root_schema()["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        elif "anyOf" in schema:
            schema = next(option for option in schema["anyOf"] if option.get("type") != "null")
        else:
            return schema


def schema_at(path: KeyPath) -> Mapping[str, Any]:
    """The JSON schema of the value at `path`; {} where the schema knows no such value."""
    schema: Mapping[str, Any] = _resolve(_root_schema())
    for part in path:
        if isinstance(part, int):
            items = schema.get("prefixItems")
            inner = items[min(part, len(items) - 1)] if items else schema.get("items", {})
        elif "properties" in schema:
            inner = schema["properties"].get(part, {})
        else:
            patterns = list(schema.get("patternProperties", {}).values())
            inner = patterns[0] if patterns else schema.get("additionalProperties", {})
        schema = _resolve(inner) if isinstance(inner, Mapping) else {}
    return schema


def _property_names(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    names: Mapping[str, Any] = schema.get("propertyNames", {})
    return names
