"""Message classes by the name that ROS 2 gives a topic's type."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module


@lru_cache(maxsize=64)
def message_class(kind: str) -> type:
    """The class of `package/msg/Name`."""
    package, _, name = kind.split("/")
    return getattr(import_module(f"{package}.msg"), name)  # type: ignore[no-any-return]
