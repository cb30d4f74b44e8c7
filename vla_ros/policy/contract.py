"""Does this policy fit this robot? Line by line, before anything moves."""

from __future__ import annotations

from collections.abc import Iterator

from vla_ros.action.bins import ActionBins
from vla_ros.action.normalise import Scaling
from vla_ros.errors import ContractError
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.contract_inputs import input_lines
from vla_ros.policy.contract_line import ContractLine, base_line, gripper_line, paired, statistics_fix
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_outputs import ActionSlice
from vla_ros.policy.ranges import possible_action
from vla_ros.robot.config import Arm, Robot


def match(bundle: Bundle, robot: Robot) -> list[ContractLine]:
    """The contract of a bundle with a robot, in a fixed order; every line must be `ok`."""
    manifest = bundle.manifest
    return [
        _embodiment(manifest, robot),
        _arms(manifest, robot),
        *input_lines(bundle, robot),
        *_actions(bundle, robot),
        *_rates(manifest, robot),
    ]


def require(bundle: Bundle, robot: Robot) -> None:
    """Raise ContractError with the fix of every line that does not match."""
    broken = [line for line in match(bundle, robot) if not line.ok]
    if broken:
        raise ContractError("\n".join(line.fix for line in broken))


def _embodiment(manifest: Manifest, robot: Robot) -> ContractLine:
    ok = manifest.embodiment == robot.embodiment
    fix = (
        f"policy '{manifest.name}' was trained for embodiment '{manifest.embodiment}'; robot '{robot.name}' "
        f"is '{robot.embodiment}': use a policy for this robot, or correct embodiment in the robot YAML"
    )
    return ContractLine(ok, "embodiment", manifest.embodiment, robot.embodiment, "" if ok else fix)


def _arms(manifest: Manifest, robot: Robot) -> ContractLine:
    ok = len(manifest.arms) == len(robot.arms)
    fix = (
        f"policy '{manifest.name}' moves {len(manifest.arms)} arm(s) ({', '.join(manifest.arms)}); robot "
        f"'{robot.name}' has {len(robot.arms)} ({', '.join(robot.arms)}): they are matched in order, so "
        f"the numbers must be the same"
    )
    pairs = ", ".join(f"{role} is {name}" for role, name in zip(manifest.arms, robot.arms, strict=False))
    says = f"{len(robot.arms)}: {pairs if ok else ', '.join(robot.arms)}"
    policy_says = f"{len(manifest.arms)}: {', '.join(manifest.arms)}"
    return ContractLine(ok, "arms", policy_says, says, "" if ok else fix)


def _actions(bundle: Bundle, robot: Robot) -> Iterator[ContractLine]:
    manifest = bundle.manifest
    if bundle.action.bins is not None:
        yield _tokens(bundle.action.bins)
    begin = 0
    for part in manifest.outputs.action:
        yield _action(manifest, part, slice(begin, begin + part.size), bundle.action, robot)
        begin += part.size
    for role in manifest.arms:
        yield from _one_motion(manifest, role)


def _tokens(bins: ActionBins) -> ContractLine:
    low, high = bins.tokens
    wants = f"{low} to {high}, {high} is -1" if bins.counts_down else f"{low} to {high}, {low} is -1"
    return ContractLine(True, "action tokens", wants, f"in {bins.count - 1} bins; other tokens are refused")


def _one_motion(manifest: Manifest, role: str) -> Iterator[ContractLine]:
    """A line where it is not clear what an arm is to do."""
    signals = {part.signal for part in manifest.outputs.action if part.arm == role}
    says = ", ".join(sorted(signals))
    ways = [tool for tool in [signals & {"tcp_position", "tcp_rotation"}] if tool]
    ways += [{joints} for joints in ("joint_position", "joint_velocity") if joints in signals]
    if len(ways) > 1:
        named = " and ".join("a tool pose" if len(way) == 2 else min(way) for way in ways)
        fix = (
            f"policy '{manifest.name}' gives {named} for arm '{role}': which of them to follow is not "
            f"declared; export it with one, and the other columns as padding"
        )
        yield ContractLine(False, f"action {role}", says, "one of them", fix)
    elif ("tcp_position" in signals) != ("tcp_rotation" in signals):
        fix = (
            f"policy '{manifest.name}' gives only {sorted(signals)} for arm '{role}': a tool pose needs "
            f"tcp_position and tcp_rotation; export it with both"
        )
        yield ContractLine(False, f"action {role}", says, "a whole pose", fix)


def _action(
    manifest: Manifest, part: ActionSlice, columns: slice, scaling: Scaling, robot: Robot
) -> ContractLine:
    wants = ", ".join([str(part.size), *part.form])
    if part.arm is None:
        if part.signal == "base_velocity":
            return base_line(manifest, robot, "action", columns, scaling)
        return ContractLine(True, "action padding", f"{part.size} columns", "ignored, as declared")
    what = f"action {part.arm}.{part.signal}"
    pair = paired(manifest, robot, part.arm)
    if pair is None:
        fix = f"policy '{manifest.name}' uses arm '{part.arm}', which robot '{robot.name}' has not"
        return ContractLine(False, what, wants, "no such arm", fix)
    says, fix = _taken(manifest, part, *pair, robot)
    if not fix:
        possible = possible_action(part, pair[1], robot.safety)
        fix = statistics_fix(manifest, robot, "action", what, columns, scaling, possible)
    return ContractLine(not fix, what, wants, says, fix)


def _taken(manifest: Manifest, part: ActionSlice, name: str, arm: Arm, robot: Robot) -> tuple[str, str]:
    """(what the robot takes of this slice, the fix where it does not)."""
    if part.signal == "gripper":
        return gripper_line(manifest, name, arm, robot)
    if part.signal.startswith("joint_"):
        says = f"{len(arm.joints)} joints, driver {arm.driver}"
        if part.size != len(arm.joints):
            return says, (
                f"policy '{manifest.name}' has {part.size} {part.signal} values for arm '{part.arm}'; robot "
                f"'{robot.name}' arm '{name}' has {len(arm.joints)} joints"
            )
        return says, ""
    return f"{arm.tool_frame} in {arm.base_frame}, {len(arm.joints)} joints, driver {arm.driver}", ""


def _rates(manifest: Manifest, robot: Robot) -> Iterator[ContractLine]:
    outputs = manifest.outputs
    rate = 1 / outputs.step_s
    ok = robot.control.rate_hz >= rate - 1e-9
    fix = (
        f"policy '{manifest.name}' gives a target every {outputs.step_s:g} s; robot '{robot.name}' controls "
        f"at {robot.control.rate_hz:g} Hz: raise control.rate_hz"
    )
    says = f"control at {robot.control.rate_hz:g} Hz"
    yield ContractLine(ok, "rate", f"steps at {rate:g} Hz", says, "" if ok else fix)
    span = (outputs.horizon - 1 + outputs.first_step) * outputs.step_s
    delay = (
        manifest.latency.p99_ms / 1000 + max(arm.actuation_latency_ms for arm in robot.arms.values()) / 1000
    )
    ok = span > delay
    fix = (
        f"policy '{manifest.name}': its chunk ends {span:g} s after the observation, but inference (p99, "
        f"measured on {manifest.latency.device}) and actuation take {delay:.3g} s: every step would be past "
        f"due; use a faster machine or a longer chunk"
    )
    wants = f"{outputs.horizon} steps over {span:g} s"
    says = f"late by {delay * 1000:.0f} ms (inference {manifest.latency.p99_ms:g} ms p99)"
    yield ContractLine(ok, "horizon", wants, says, "" if ok else fix)
