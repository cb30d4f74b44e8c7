"""What the demo network sees and says: image size, state vector, block colours, target pixels.

State, float32 [10]: tool position in the base frame [m], rot6d of the tool (first two columns,
contiguous), gripper width [m].
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.sim.world import CAMERAS, PALETTE, World

NETWORK_WIDTH = 128
NETWORK_HEIGHT = 96
STATE_SIZE = 10
COLORS: tuple[str, ...] = tuple(sorted(PALETTE))
VIEWS: tuple[str, ...] = CAMERAS


def shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [480, 640, 3] to [96, 128, 3] by area averaging, the bundle's resize rule."""
    small = cv2.resize(image, (NETWORK_WIDTH, NETWORK_HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def state_vector(tool: NDArray[np.float64], width: float) -> NDArray[np.float32]:
    """State of the network from the tool pose [4, 4] and the gripper width [m]."""
    return np.concatenate([tool[:3, 3], tool[:3, 0], tool[:3, 1], [width]]).astype(np.float32)


def block_pixels(world: World, camera: str, blocks: NDArray[np.float64]) -> NDArray[np.float32]:
    """Where block centres appear: blocks [N, 4, 4] to float32 [N, 2], (0, 0) top left, (1, 1) bottom
    right of the image; NaN when behind the camera or outside."""
    info = world.camera_info(camera)
    points = (np.linalg.inv(world.camera_pose(camera)) @ blocks[:, :, 3].T).T
    depth = np.where(points[:, 2] > 0.01, points[:, 2], np.nan)
    u = (info.fx * points[:, 0] / depth + info.cx + 0.5) / info.width
    v = (info.fy * points[:, 1] / depth + info.cy + 0.5) / info.height
    uv = np.stack([u, v], axis=1).astype(np.float32)
    uv[~((uv > 0) & (uv < 1)).all(axis=1)] = np.nan
    return uv
