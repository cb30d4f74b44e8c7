"""Words for messages about names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def quoted(names: Iterable[str]) -> str:
    """'a', 'b', 'c'."""
    return ", ".join(f"'{name}'" for name in names)


def advice(wrong: str, right: Iterable[str], otherwise: str) -> str:
    """`did you mean 'x'?` when a name is close to the wrong one, else `otherwise`."""
    close = difflib.get_close_matches(wrong, list(right), n=1)
    return f"did you mean '{close[0]}'?" if close else otherwise
