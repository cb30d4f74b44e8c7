"""The pictures of one episode: camera strips, commanded against measured, chunk overlap."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.evaluation.svg import Item, Line, plot
from vla_ros.evaluation.trajectories import seconds, thin
from vla_ros.recording.episode import Episode, Signal
from vla_ros.robot.channels import POSITION_AXES, gripper_channel, joint_channels, tool_channels
from vla_ros.robot.config import Arm, Robot

STRIP_FRAMES = 8
STRIP_WIDTH = 224
JPEG_QUALITY = 78
PLOT_RATE_HZ = 25.0
COMMANDED, MEASURED, PLANNED = "var(--commanded)", "var(--measured)", "var(--planned)"

Forward = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def episode_start_ns(episode: Episode) -> int:
    """The first joint state's stamp; without any, the first command's or image's; else 0.

    Joint states are there at once, while an image that arrives first may show the scene before.
    """
    stamps = [int(signal.stamps_ns[0]) for signal in episode.joints.values() if len(signal.stamps_ns)]
    if not stamps and len(episode.command.stamps_ns):
        stamps = [int(episode.command.stamps_ns[0])]
    if not stamps:
        stamps = [images[0][0] for images in episode.images.values() if images]
    return min(stamps, default=0)


def camera_strips(episode: Episode, zero_ns: int) -> str:
    """One row of frames per camera, evenly spread over the time from `zero_ns` on, with their times."""
    rows = []
    for camera, recorded in episode.images.items():
        images = [image for image in recorded if image[0] >= zero_ns]
        if not images:
            rows.append(f"<p>No frame of camera {escape(camera)} was recorded.</p>")
            continue
        picked = np.unique(np.linspace(0, len(images) - 1, STRIP_FRAMES).round().astype(int))
        frames = "".join(
            f'<figure><img alt="{escape(camera)} at {(images[k][0] - zero_ns) / 1e9:.1f} s" '
            f'src="data:image/jpeg;base64,{_thumbnail(images[k][1])}">'
            f"<figcaption>{(images[k][0] - zero_ns) / 1e9:.1f} s</figcaption></figure>"
            for k in picked
        )
        rows.append(f'<div class="strip"><span>{escape(camera)}</span>{frames}</div>')
    return "".join(rows)


def joint_plots(episode: Episode, robot: Robot, zero_ns: int) -> str:
    """Commanded against measured, one plot per joint (rad) and per gripper (m)."""
    plots = []
    command = thin(episode.command, PLOT_RATE_HZ)
    for name, arm in robot.arms.items():
        measured = thin(episode.joints[name], PLOT_RATE_HZ)
        channels = joint_channels(name, len(arm.joints))
        for channel, joint in zip(channels, arm.joints, strict=True):
            items = _pair(command, channel, measured, joint, zero_ns)
            plots.append(plot(items, joint, "s", "rad", (300, 150), at_least=0.05))
        if arm.gripper is not None:
            plots.append(_gripper_plot(episode, name, arm, command, zero_ns))
    return _legend(commanded=COMMANDED, measured=MEASURED) + f'<div class="grid">{"".join(plots)}</div>'


def chunk_plots(episode: Episode, robot: Robot, forward: Mapping[str, Forward], zero_ns: int) -> str:
    """Every chunk as it was planned, with what the arm then did: tool position, or joints for a
    policy that speaks of joints. `forward`: {arm: joints [J] -> tool pose [4, 4]}."""
    plots = []
    for name, arm in robot.arms.items():
        present = {channel for chunk in episode.chunks for channel in chunk.channels}
        tool = tool_channels(name)[:3]
        measured = thin(episode.joints[name], PLOT_RATE_HZ)
        if set(tool) <= present:
            positions = [forward[name](row)[:3, 3] for row in measured.values]
            done = Signal(tool, measured.stamps_ns, np.array(positions).reshape(-1, 3))
            shown = [
                (f"tool {axis}", channel, "m") for axis, channel in zip(POSITION_AXES, tool, strict=True)
            ]
        else:
            channels = joint_channels(name, len(arm.joints))
            done = Signal(channels, measured.stamps_ns, measured.values)
            shown = [(channel, channel, "rad") for channel in channels if channel in present]
        for title, channel, unit in shown:
            items: list[Item] = [
                Line(
                    seconds(chunk.due_ns, zero_ns),
                    chunk.targets[:, chunk.channels.index(channel)],
                    PLANNED,
                    0.8,
                    0.45,
                )
                for chunk in episode.chunks
                if channel in chunk.channels
            ]
            items.append(Line(seconds(done.stamps_ns, zero_ns), done.column(channel), MEASURED, 2.0))
            end = float(seconds(done.stamps_ns, zero_ns)[-1]) if len(done.stamps_ns) else 1.0
            plots.append(plot(items, title, "s", unit, (420, 210), x_range=(0.0, end), at_least=0.02))
    return _legend(chunks=PLANNED, measured=MEASURED) + f'<div class="grid wide">{"".join(plots)}</div>'


def _gripper_plot(episode: Episode, name: str, arm: Arm, command: Signal, zero_ns: int) -> str:
    # Half the width per finger or one joint for all of it: the width is the sum (robot YAML).
    fingers = episode.gripper[name]
    width = Signal(("width",), fingers.stamps_ns, fingers.values.sum(axis=1, keepdims=True))
    items = _pair(command, gripper_channel(name), width, "width", zero_ns)
    assert arm.gripper is not None
    low, high = arm.gripper.width
    return plot(items, "gripper width", "s", "m", (300, 150), y_range=(low - 0.005, high + 0.005))


def _pair(command: Signal, wanted: str, measured: Signal, actual: str, zero_ns: int) -> list[Item]:
    items: list[Item] = [
        Line(seconds(measured.stamps_ns, zero_ns), measured.column(actual), MEASURED, 1.6, title="measured")
    ]
    if wanted in command.names:
        items.append(
            Line(
                seconds(command.stamps_ns, zero_ns),
                command.column(wanted),
                COMMANDED,
                1.4,
                dash="4 2",
                title="commanded",
            )
        )
    return items


def _legend(**colours: str) -> str:
    keys = "".join(
        f'<span><i style="background:{colour}"></i>{name}</span>' for name, colour in colours.items()
    )
    return f'<p class="legend">{keys}</p>'


def _thumbnail(jpeg: bytes) -> str:
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{len(jpeg)} bytes that are no JPEG image")
    height = round(STRIP_WIDTH * pixels.shape[0] / pixels.shape[1])
    small = cv2.resize(pixels, (STRIP_WIDTH, height), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return base64.b64encode(encoded.tobytes()).decode()
