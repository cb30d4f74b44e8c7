"""Keeps links away from forbidden boxes and from another arm, whatever the arms are asked to do.

A tick's steps are taken only if braking right after them keeps every rule of `vla_ros.robot.geometry`.
Braking from where the arms are was looked at a tick before, so it is always there to fall back on; it has to
be all arms of a rule that brake, because their ways were looked at together.

The way to rest is looked at closely only where it matters: no point of a link moves further than its joints'
travel times their reach, so where links are far, one distance tells about the whole way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vla_ros.robot.geometry import Geometry, Rule
from vla_ros.types import FloatArray

# Links may move this far between two looks, m: the way between two points that keep a distance bulges by far
# less than that.
RESOLUTION = 0.002


class Clearance:
    """See the module."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        # Per rule, where a distance was looked at last, and what it was.
        self._seen: dict[int, tuple[FloatArray, float]] = {}

    def blocked(
        self,
        now: Mapping[str, FloatArray],
        ways: Mapping[str, FloatArray],
        braking: Callable[[str], FloatArray],
    ) -> dict[str, list[str]]:
        """{arm: kinds of rules because of which it has to brake}, empty where all steps can be taken.

        now: {arm: control point sent last [J]}; ways: {arm: control points from its step to rest [K, J]};
        braking: the way of an arm that brakes now.
        """
        words: dict[str, list[str]] = {}
        taken = dict(ways)
        again = True
        while again:
            again = False
            for rule in self._geometry.rules:
                if all(name in words for name in rule.arms) or self._keeps(rule, now, taken):
                    continue
                for name in rule.arms:
                    if name not in words:
                        words[name] = []
                        taken[name] = braking(name)
                    if rule.kind not in words[name]:
                        words[name].append(rule.kind)
                # A rule that was kept before may not be kept with an arm that brakes instead.
                again = True
        return words

    def _keeps(self, rule: Rule, now: Mapping[str, FloatArray], ways: Mapping[str, FloatArray]) -> bool:
        seen = self._seen.get(id(rule))
        if seen is not None:
            # Each joint brakes without turning round, so it is nowhere further than at one of the ends.
            begin = np.concatenate([ways[name][0] for name in rule.arms])
            end = np.concatenate([ways[name][-1] for name in rule.arms])
            furthest = np.maximum(np.abs(begin - seen[0]), np.abs(end - seen[0]))
            if furthest @ rule.reach < seen[1] - rule.distance:
                # Too far, when it was looked at last, for links to have come so near since.
                return True
        way = _together([ways[name] for name in rule.arms])
        # This is how far links can have come at most.
        travel = np.abs(way - way[0]) @ rule.reach
        least = rule.distance
        row = 0
        while True:
            found = self._geometry.distance(rule, way[row])
            self._seen[id(rule)] = way[row], found
            if found < least:
                # From a start that breaks the rule, what does not make it worse is allowed.
                here = np.concatenate([now[name] for name in rule.arms])
                least = min(least, self._geometry.distance(rule, here))
                if found < least:
                    return False
            if travel[-1] - travel[row] <= found - least:
                return True
            further = travel[row] + max(found - least, RESOLUTION)
            row = min(max(int(np.searchsorted(travel, further, side="right")) - 1, row + 1), len(way) - 1)


def _together(ways: list[FloatArray]) -> FloatArray:
    """Ways of several arms side by side, [K, sum of J]; the shorter ones rest at their end."""
    if len(ways) == 1:
        return ways[0]
    longest = max(len(way) for way in ways)
    return np.concatenate(
        [way[np.minimum(np.arange(longest), len(way) - 1)] for way in ways],
        axis=1,
    )
