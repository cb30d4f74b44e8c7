"""Offscreen rendering whose OpenGL platform is opened only when the first image is asked for.

``mujoco.Renderer`` takes its platform from ``MUJOCO_GL`` when mujoco is imported and otherwise
wants a display. Here the platform is chosen at run time, so that physics needs no OpenGL at all and no
environment variable has to be set: EGL, then OSMesa; ``MUJOCO_GL`` narrows the choice.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

_PLATFORMS = ("egl", "osmesa")


class RenderingUnavailableError(RuntimeError):
    """No OpenGL platform could be opened for offscreen rendering."""


class Offscreen:
    """Renders the cameras of one model, RGB uint8 [height, width, 3].

    Use from one thread only: an OpenGL context belongs to the thread that made it.

    Raises:
        RenderingUnavailableError: neither EGL nor OSMesa works here; the text says what to install.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self._model = model
        self._platform = _open_platform(width, height)
        self._scene = mujoco.MjvScene(model=model, maxgeom=200)
        self._option = mujoco.MjvOption()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)

    def render(self, data: mujoco.MjData, camera: int) -> NDArray[np.uint8]:
        """Image of camera number ``camera``; kinematics in ``data`` must be up to date."""
        self._camera.fixedcamid = camera
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._option,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
        # OpenGL's first row is the bottom one.
        return np.ascontiguousarray(self._pixels[::-1])

    def close(self) -> None:
        """Release the OpenGL context."""
        self._context.free()
        self._platform.free()


def _open_platform(width: int, height: int) -> Any:
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    names = (wanted,) if wanted in _PLATFORMS else _PLATFORMS
    failures = []
    for name in names:
        try:
            context = importlib.import_module(f"mujoco.{name}").GLContext(width, height)
            context.make_current()
            return context
        except Exception as error:  # every OpenGL platform raises kinds of its own
            failures.append(f"{name}: {error or type(error).__name__}")
    raise RenderingUnavailableError(
        f"no offscreen OpenGL ({'; '.join(failures)}). Install a software renderer: "
        "sudo apt-get install libegl1 libgl1-mesa-dri"
    )
