"""MJCF of the tabletop scene: an FR3 with the Franka hand, a table, three blocks, two cameras.

The arm has the true kinematics (Franka's modified Denavit-Hartenberg parameters, the joint limits
of libfranka's ``rate_limiting.h``); its shapes are primitives, its masses round figures. Everything
is generated here so that no mesh and no third-party model is needed.

Frames: ``world`` = the arm's base frame (z up, x forward, table top at z = 0). ``fr3_hand_tcp`` is
a site 0.1034 m along z of the hand, between the finger tips. Units: m, kg, rad, s.
"""

from __future__ import annotations

import math

JOINT_NAMES: tuple[str, ...] = tuple(f"fr3_joint{i}" for i in range(1, 8))
FINGER_NAMES: tuple[str, ...] = ("fr3_finger_joint1", "fr3_finger_joint2")
BLOCK_COUNT = 3
BLOCK_HALF_SIZE = 0.02
FINGER_TRAVEL = 0.04
TIMESTEP = 0.002

# (a, d, alpha) of the frame before each joint; source: Franka Control Interface documentation,
# "Denavit-Hartenberg parameters" (Craig's convention).
DH: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
)
FLANGE_OFFSET = 0.107
HAND_YAW = -math.pi / 4
TCP_OFFSET = 0.1034

# lower, upper [rad]; source: libfranka rate_limiting.h (FR3).
JOINT_LIMITS: tuple[tuple[float, float], ...] = (
    (-2.7501, 2.7501),
    (-1.7918, 1.7918),
    (-2.9065, 2.9065),
    (-3.0481, -0.1458),
    (-2.8101, 2.8101),
    (0.54092, 4.5205),
    (-3.0196, 3.0196),
)

# Position servo per joint: stiffness kp, damping kv, torque limit. Both poles are real (overdamped)
# and the slow one sits near kp/kv = 25 rad/s: a first-order lag of about 40 ms, like an arm under
# impedance control. Torque limits as in Franka's data sheet.
_SERVO: tuple[tuple[float, float, float], ...] = (
    (4500.0, 180.0, 87.0),
    (4500.0, 180.0, 87.0),
    (4500.0, 180.0, 87.0),
    (4500.0, 180.0, 87.0),
    (1000.0, 40.0, 12.0),
    (1000.0, 40.0, 12.0),
    (1000.0, 40.0, 12.0),
)
_MASSES = (2.9, 2.9, 2.6, 2.6, 1.9, 1.4, 0.5)

# Shapes of each link in its own frame: capsules as (x1 y1 z1 x2 y2 z2 radius).
_CAPSULES: tuple[tuple[tuple[float, ...], ...], ...] = (
    ((0, 0, -0.19, 0, 0, 0.0, 0.065),),
    ((0, 0, 0, 0, -0.13, 0, 0.065),),
    ((0, 0, -0.18, 0, 0, -0.02, 0.06), (0, 0, -0.02, 0.0825, 0, 0, 0.055)),
    ((0, 0, -0.03, 0, 0, 0.05, 0.06), (-0.0825, 0.02, 0, -0.0825, 0.12, 0, 0.055)),
    ((0, 0, -0.26, 0, 0.03, -0.12, 0.055), (0, 0.05, -0.12, 0, 0.02, 0, 0.05)),
    ((0, 0, -0.02, 0, 0, 0.02, 0.05), (0, 0, 0, 0.088, 0, 0, 0.05)),
    ((0, 0, -0.02, 0, 0, 0.085, 0.045),),
)


def _quat_x(angle: float) -> str:
    """MuJoCo quaternion (wxyz) of a rotation about x, as text."""
    return f"{math.cos(angle / 2):.12g} {math.sin(angle / 2):.12g} 0 0"


def _look_at(position: tuple[float, float, float], target: tuple[float, float, float]) -> str:
    """``xyaxes`` of a camera at ``position`` that looks at ``target``, world z up in the image."""
    forward = [t - p for p, t in zip(position, target, strict=True)]
    norm = math.sqrt(sum(f * f for f in forward))
    fx, fy, fz = (f / norm for f in forward)
    right = (fy, -fx, 0.0)
    scale = math.hypot(right[0], right[1])
    rx, ry = right[0] / scale, right[1] / scale
    # image up = right x forward
    ux, uy, uz = ry * fz, -rx * fz, rx * fy - ry * fx
    return f"{rx:.9g} {ry:.9g} 0 {ux:.9g} {uy:.9g} {uz:.9g}"


def _arm(index: int = 0) -> str:
    """Nested bodies from joint ``index + 1`` to the hand."""
    if index == len(DH):
        return _hand()
    a, d, alpha = DH[index]
    pos = f"{a:.9g} {-d * math.sin(alpha):.9g} {d * math.cos(alpha):.9g}"
    lower, upper = JOINT_LIMITS[index]
    # The first link touches the table it is mounted on, so it does not collide.
    collide = 'class="drawn"' if index == 0 else 'class="arm"'
    shapes = "".join(
        f'<geom {collide} type="capsule" fromto="{" ".join(map(str, c[:6]))}" size="{c[6]}"/>'
        for c in _CAPSULES[index]
    )
    return (
        f'<body name="fr3_link{index + 1}" pos="{pos}" quat="{_quat_x(alpha)}" gravcomp="1">'
        f'<inertial pos="0 0 0" mass="{_MASSES[index]}" diaginertia="0.02 0.02 0.02"/>'
        f'<joint name="{JOINT_NAMES[index]}" axis="0 0 1" range="{lower} {upper}" '
        f'armature="0.1" damping="0.5"/>'
        f"{shapes}{_arm(index + 1)}</body>"
    )


def _finger(index: int) -> str:
    side = 1 if index == 0 else -1
    # Inner pad faces lie at y = 0 when closed.
    return (
        f'<body name="fr3_finger{index + 1}" pos="0 0 0.0584" gravcomp="1">'
        f'<inertial pos="0 {side * 0.008} 0.025" mass="0.05" diaginertia="2e-5 2e-5 1e-5"/>'
        f'<joint name="{FINGER_NAMES[index]}" type="slide" axis="0 {side} 0" '
        f'range="0 {FINGER_TRAVEL}" armature="0.1" damping="5"/>'
        f'<geom class="finger" type="box" pos="0 {side * 0.010} 0.012" size="0.008 0.010 0.014"/>'
        f'<geom class="pad" type="box" pos="0 {side * 0.006} 0.041" size="0.009 0.006 0.013"/>'
        "</body>"
    )


def _hand() -> str:
    half = HAND_YAW / 2
    # The wrist camera sits in front of the hand and tilts 12 degrees towards the finger tips.
    tilt = math.radians(12.0)
    return (
        f'<body name="fr3_hand" pos="0 0 {FLANGE_OFFSET}" '
        f'quat="{math.cos(half):.12g} 0 0 {math.sin(half):.12g}" gravcomp="1">'
        '<inertial pos="0 0 0.03" mass="0.7" diaginertia="0.001 0.0025 0.0017"/>'
        '<geom class="arm" type="box" pos="0 0 0.032" size="0.025 0.100 0.032" '
        'rgba="0.93 0.93 0.94 1"/>'
        '<geom class="drawn" type="box" pos="0.055 0 -0.004" size="0.030 0.045 0.004" '
        'rgba="0.25 0.25 0.27 1"/>'
        f'<camera name="wrist" pos="0.085 0 0" fovy="76" '
        f'xyaxes="0 1 0 {math.cos(tilt):.9g} 0 {math.sin(tilt):.9g}"/>'
        f'<site name="fr3_hand_tcp" pos="0 0 {TCP_OFFSET}" size="0.002" rgba="0 0 0 0"/>'
        f"{_finger(0)}{_finger(1)}</body>"
    )


def _blocks() -> str:
    half = BLOCK_HALF_SIZE
    return "".join(
        f'<body name="block{i}" pos="{0.4 + 0.1 * i} 0 {half}"><freejoint name="block{i}"/>'
        f'<geom name="block{i}" class="block" type="box" size="{half} {half} {half}"/></body>'
        for i in range(BLOCK_COUNT)
    )


def build_mjcf() -> str:
    """Return the scene as MJCF text.

    Collision groups (contype/conaffinity): the arm meets table and blocks but not itself; blocks
    meet everything. Offscreen rendering has neither shadows nor multisampling: with software
    OpenGL either of them more than doubles the 3 ms that a 640x480 frame takes.
    """
    front = (1.12, 0.0, 0.62)
    actuators = "".join(
        f'<position name="{name}" joint="{name}" kp="{kp}" kv="{kv}" '
        f'ctrlrange="{low} {high}" forcerange="-{force} {force}"/>'
        for name, (kp, kv, force), (low, high) in zip(JOINT_NAMES, _SERVO, JOINT_LIMITS, strict=True)
    )
    return f"""
<mujoco model="fr3_tabletop">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <visual>
    <global offwidth="640" offheight="480"/>
    <quality shadowsize="0" offsamples="0"/>
    <map znear="0.02" zfar="6"/>
    <headlight ambient="0.45 0.45 0.45" diffuse="0.45 0.45 0.45" specular="0 0 0"/>
  </visual>
  <default>
    <default class="drawn"><geom contype="0" conaffinity="0" rgba="0.93 0.93 0.94 1"/></default>
    <default class="arm"><geom contype="1" conaffinity="0" rgba="0.93 0.93 0.94 1"/></default>
    <default class="finger">
      <geom contype="1" conaffinity="0" rgba="0.30 0.30 0.32 1"/>
    </default>
    <default class="pad">
      <geom contype="1" conaffinity="0" condim="4" friction="1.5 0.02 0.0001" priority="1"
            solref="0.006 1" solimp="0.95 0.99 0.001" rgba="0.16 0.16 0.17 1"/>
    </default>
    <default class="block">
      <geom contype="4" conaffinity="7" condim="4" mass="0.05" friction="0.9 0.01 0.0001"
            solref="0.006 1"/>
    </default>
  </default>
  <worldbody>
    <light name="lamp" pos="0.6 -0.6 2" dir="-0.1 0.3 -1" directional="true" castshadow="false"
           diffuse="0.4 0.4 0.4" specular="0 0 0"/>
    <geom name="table" type="box" pos="0.45 0 -0.02" size="0.75 0.75 0.02" contype="2"
          conaffinity="1" friction="0.9 0.01 0.0001" rgba="0.66 0.63 0.58 1"/>
    <geom name="floor" type="plane" pos="0 0 -0.8" size="4 4 1" contype="0" conaffinity="0"
          rgba="0.42 0.44 0.47 1"/>
    <camera name="front" pos="{front[0]} {front[1]} {front[2]}" fovy="36"
            xyaxes="{_look_at(front, (0.47, 0.0, 0.05))}"/>
    <geom class="drawn" type="cylinder" pos="0 0 0.07" size="0.075 0.07"/>
    {_arm()}
    {_blocks()}
  </worldbody>
  <equality>
    <joint joint1="{FINGER_NAMES[0]}" joint2="{FINGER_NAMES[1]}" polycoef="0 1 0 0 0"
           solref="0.005 1" solimp="0.95 0.99 0.001"/>
  </equality>
  <tendon>
    <fixed name="gripper">
      <joint joint="{FINGER_NAMES[0]}" coef="0.5"/><joint joint="{FINGER_NAMES[1]}" coef="0.5"/>
    </fixed>
  </tendon>
  <actuator>
    {actuators}
    <position name="gripper" tendon="gripper" kp="6000" kv="240" ctrlrange="0 {FINGER_TRAVEL}"
              forcerange="-70 70"/>
  </actuator>
</mujoco>
"""
