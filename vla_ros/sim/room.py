"""What the simulated arms stand on and have around them: a table, or a base that drives through a room."""

from __future__ import annotations

import mujoco
from numpy.typing import ArrayLike

TABLE_SIZE = (1.2, 1.2, 0.02)
# Half sizes and middles, m, of what a robot on a base has around it, and of the base.
ROOM_TABLE, ROOM_TABLE_AT = (0.4, 0.7, 0.02), (1.5, 0.0, 0.73)
CHASSIS, CHASSIS_AT = (0.28, 0.28, 0.09), (0.0, 0.0, 0.12)
FLOOR_SIZE, FLOOR_TILES = (6.0, 6.0, 0.1), (24, 24)
TABLE_COLOUR, CHASSIS_COLOUR = (0.55, 0.47, 0.38, 1.0), (0.25, 0.25, 0.28, 1.0)
BASE = "base"
BASE_JOINTS = ("base/x", "base/y", "base/heading")
# The base is put where its wheels take it, and nothing that the arms do moves it; kg, or kg m^2.
UNMOVED = 1e6


def add_table(spec: mujoco.MjSpec) -> mujoco.MjsBody:
    """A table around the robot; returns the body that arms and cameras are on."""
    _add_light(spec)
    _add_box(spec.worldbody, TABLE_SIZE, (0.0, 0.0, -TABLE_SIZE[2] - 1e-3), TABLE_COLOUR)
    return spec.worldbody


def add_room_and_base(spec: mujoco.MjSpec) -> mujoco.MjsBody:
    """A floor, a table to drive to and the base; returns the base's body, which arms and cameras are on."""
    _add_light(spec)
    spec.add_texture(
        name="tiles", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.45, 0.45, 0.42], rgb2=[0.62, 0.62, 0.58], width=256, height=256,
    )  # fmt: skip
    tiles = spec.add_material(name="tiles", texrepeat=FLOOR_TILES)
    tiles.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "tiles"
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE, size=FLOOR_SIZE, pos=[0.0, 0.0, 0.0], material="tiles"
    )
    _add_box(spec.worldbody, ROOM_TABLE, ROOM_TABLE_AT, TABLE_COLOUR)
    base = spec.worldbody.add_body(
        name=BASE, mass=1.0, inertia=[1.0, 1.0, 1.0], ipos=[0.0, 0.0, 0.0], explicitinertial=True
    )
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    ways = ((slide, (1, 0, 0)), (slide, (0, 1, 0)), (hinge, (0, 0, 1)))
    for joint, (kind, axis) in zip(BASE_JOINTS, ways, strict=True):
        base.add_joint(name=joint, type=kind, axis=axis, armature=UNMOVED)
    _add_box(base, CHASSIS, CHASSIS_AT, CHASSIS_COLOUR)
    return base


def _add_light(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_light(
        pos=[0.0, 0.0, 2.5], dir=[0.0, 0.0, -1.0], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    )


def _add_box(body: mujoco.MjsBody, size: ArrayLike, at: ArrayLike, colour: ArrayLike) -> None:
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=at, rgba=colour)
