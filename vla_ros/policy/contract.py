"""Does this policy fit this robot? Line by line, before anything moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vla_ros.action.normalise import Scaling
from vla_ros.errors import ContractError
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.contract_inputs import input_lines
from vla_ros.policy.contract_line import ContractLine, paired
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_outputs import ActionSlice
from vla_ros.policy.ranges import outside
from vla_ros.robot.config import Robot


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
    yield from _slices(manifest.outputs.action, bundle.action, manifest, robot)
    for role in manifest.arms:
        signals = {part.signal for part in manifest.outputs.action if part.arm == role}
        if ("tcp_position" in signals) != ("tcp_rot6d" in signals):
            fix = (
                f"policy '{manifest.name}' gives only {sorted(signals)} for arm '{role}': a tool pose needs "
                f"tcp_position and tcp_rot6d; export it with both"
            )
            yield ContractLine(False, f"action {role}", ", ".join(sorted(signals)), "a whole pose", fix)
        elif "tcp_position" in signals and "joint_position" in signals:
            fix = (
                f"policy '{manifest.name}' gives a tool pose and joint positions for arm '{role}': which of "
                f"them to follow is not declared; export it with one"
            )
            yield ContractLine(False, f"action {role}", ", ".join(sorted(signals)), "one of them", fix)


def _slices(
    parts: Sequence[ActionSlice],
    scaling: Scaling,
    manifest: Manifest,
    robot: Robot,
) -> Iterator[ContractLine]:
    begin = 0
    low, high = scaling.extent
    for part in parts:
        line = _slice(part, manifest, robot)
        columns = slice(begin, begin + part.size)
        begin += part.size
        pair = paired(manifest, robot, part.arm)
        if line.ok and pair is not None:
            wrong = outside(part, low[columns], high[columns], pair[1], robot.safety)
            if wrong:
                fix = (
                    f"policy '{manifest.name}': {manifest.normalisation.action.file}: {line.what}: {wrong}: "
                    f"statistics of another robot or in other units; export it with those of '{robot.name}'"
                )
                line = replace(line, ok=False, fix=fix)
        yield line


def _slice(part: ActionSlice, manifest: Manifest, robot: Robot) -> ContractLine:
    what = f"action {part.arm}.{part.signal}"
    wants = str(part.size)
    if part.rot6d:
        wants += f", rot6d by {part.rot6d}"
    wants += f", {part.reference}"
    pair = paired(manifest, robot, part.arm)
    if pair is None:
        fix = f"policy '{manifest.name}' uses arm '{part.arm}', which robot '{robot.name}' has not"
        return ContractLine(False, what, wants, "no such arm", fix)
    name, arm = pair
    fix = ""
    if part.signal.startswith("gripper"):
        says = "no gripper"
        if arm.gripper is None:
            fix = (
                f"policy '{manifest.name}' needs a gripper on arm '{name}'; robot '{robot.name}' declares "
                f"none: add arms.{name}.gripper"
            )
        else:
            low, high = arm.gripper.width
            says = f"{low:g} to {high:g} m, {arm.gripper.states.topic}"
    elif part.signal == "joint_position":
        says = f"{len(arm.joints)} joints, driver {arm.driver}"
        if part.size != len(arm.joints):
            fix = (
                f"policy '{manifest.name}' has {part.size} joint positions for arm '{part.arm}'; robot "
                f"'{robot.name}' arm '{name}' has {len(arm.joints)} joints"
            )
    else:
        says = f"{arm.tool_frame} in {arm.base_frame}, {len(arm.joints)} joints, driver {arm.driver}"
    return ContractLine(not fix, what, wants, says, fix)


def _rates(manifest: Manifest, robot: Robot) -> Iterator[ContractLine]:
    outputs = manifest.outputs
    rate = 1 / outputs.dt_s
    ok = robot.control.rate_hz >= rate - 1e-9
    fix = (
        f"policy '{manifest.name}' gives a target every {outputs.dt_s:g} s; robot '{robot.name}' controls at "
        f"{robot.control.rate_hz:g} Hz: raise control.rate_hz"
    )
    says = f"control at {robot.control.rate_hz:g} Hz"
    yield ContractLine(ok, "rate", f"steps at {rate:g} Hz", says, "" if ok else fix)
    span = (outputs.horizon - 1 + outputs.first_step) * outputs.dt_s
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
