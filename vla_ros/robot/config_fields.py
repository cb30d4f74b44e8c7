"""The quantities of a robot YAML, with the bounds that catch a wrong unit, and the stream of a topic."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# A little over 2 pi: a joint limit beyond is in degrees, not radians.
FULL_TURN = 6.2832


def unit(unit: str) -> dict[str, object]:
    """What a field's schema says of its unit."""
    return {"unit": unit}


Angle = Annotated[
    float, Field(ge=-FULL_TURN, le=FULL_TURN, allow_inf_nan=False, json_schema_extra=unit("rad"))
]
SmallAngle = Annotated[
    float, Field(gt=0, le=FULL_TURN / 2, allow_inf_nan=False, json_schema_extra=unit("rad"))
]
JointSpeed = Annotated[float, Field(gt=0, le=50, allow_inf_nan=False, json_schema_extra=unit("rad/s"))]
JointAcceleration = Annotated[
    float, Field(gt=0, le=1000, allow_inf_nan=False, json_schema_extra=unit("rad/s^2"))
]
JointJerk = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False, json_schema_extra=unit("rad/s^3"))]
Coordinate = Annotated[float, Field(ge=-5, le=5, allow_inf_nan=False, json_schema_extra=unit("m"))]
Distance = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, json_schema_extra=unit("m"))]
# Of what keeps arms and things apart: less than a few millimetres is another unit.
Thickness = Annotated[float, Field(ge=0.005, le=1, allow_inf_nan=False, json_schema_extra=unit("m"))]
Width = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False, json_schema_extra=unit("m"))]
Speed = Annotated[float, Field(gt=0, le=5, allow_inf_nan=False, json_schema_extra=unit("m/s"))]
RotationSpeed = Annotated[float, Field(gt=0, le=20, allow_inf_nan=False, json_schema_extra=unit("rad/s"))]
# Of a base, which does not turn round within a second.
TurningSpeed = Annotated[
    float, Field(gt=0, le=FULL_TURN, allow_inf_nan=False, json_schema_extra=unit("rad/s"))
]
Acceleration = Annotated[float, Field(gt=0, le=20, allow_inf_nan=False, json_schema_extra=unit("m/s^2"))]
RotationAcceleration = Annotated[
    float, Field(gt=0, le=50, allow_inf_nan=False, json_schema_extra=unit("rad/s^2"))
]
Force = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False, json_schema_extra=unit("N"))]
Rate = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False, json_schema_extra=unit("Hz"))]
FrameRate = Annotated[float, Field(gt=0, le=500, allow_inf_nan=False, json_schema_extra=unit("Hz"))]
Seconds = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, json_schema_extra=unit("s"))]
Milliseconds = Annotated[float, Field(ge=1, le=5_000, allow_inf_nan=False, json_schema_extra=unit("ms"))]
Pixels = Annotated[int, Field(ge=16, le=16_384, json_schema_extra=unit("pixels"))]
Offset = Annotated[int, Field(ge=0, le=16_384, json_schema_extra=unit("pixels"))]
# Of whatever the driver counts in: m, rad, motor units.
DriverUnits = Annotated[
    float, Field(ge=-100_000, le=100_000, allow_inf_nan=False, json_schema_extra=unit("the driver's unit"))
]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        json_schema_extra={"expected": "a name of letters, digits and _ that starts with a letter"},
    ),
]
Topic = Annotated[
    str,
    Field(
        pattern=r"^(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$",
        json_schema_extra={"expected": "a ROS name such as /camera/image_raw"},
    ),
]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stream(Model):
    """A topic that must keep coming.

    rate_hz: what the driver publishes; max_age_ms: older than this it is stale and no observation is
    made (and, for odometry, base and arms are brought to a hold; for joint states see `Safety`). stamps:
    `arrival` for joint states or odometry of a driver whose header stamps are not on the ROS clock (Piper's
    are its SDK's): they count from when they arrive.
    """

    topic: Topic
    rate_hz: Rate
    max_age_ms: Milliseconds
    reliability: Literal["reliable", "best_effort"] = "reliable"
    stamps: Literal["header", "arrival"] = "header"
