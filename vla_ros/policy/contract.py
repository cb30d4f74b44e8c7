"""Does this policy fit this robot? Line by line, before anything moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vla_ros.action.normalise import Scaling
from vla_ros.errors import ContractError
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_inputs import ImageInput, StateSlice
from vla_ros.policy.manifest_outputs import ActionSlice
from vla_ros.policy.ranges import outside
from vla_ros.robot.config import Arm, Robot


@dataclass(frozen=True)
class ContractLine:
    """One thing that policy and robot must agree on. fix: what to do, empty when `ok`."""

    ok: bool
    what: str
    policy_says: str
    robot_says: str
    fix: str = ""


def match(bundle: Bundle, robot: Robot) -> list[ContractLine]:
    """The contract of a bundle with a robot, in a fixed order; every line must be `ok`."""
    manifest = bundle.manifest
    return [
        _embodiment(manifest, robot),
        _arms(manifest, robot),
        *_cameras(manifest, robot),
        *_states(bundle, robot),
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


def _cameras(manifest: Manifest, robot: Robot) -> Iterator[ContractLine]:
    if not manifest.inputs.images:
        fix = (
            f"policy '{manifest.name}' looks at no camera, but images are what an observation's time is "
            f"taken from: export it with at least one"
        )
        yield ContractLine(False, "cameras", "none", ", ".join(robot.cameras), fix)
    taken: dict[str, str] = {}
    for image in manifest.inputs.images:
        what = f"camera '{image.role}'"
        wants = f"{image.width}×{image.height} {image.fit} {image.kernel} {image.colour}"
        name = robot.policy.cameras.get(image.role)
        if name is None:
            fix = (
                f"policy expects {what} {image.width}×{image.height}; robot '{robot.name}' has "
                f"{', '.join(robot.cameras)}: map one under policy.cameras"
            )
            yield ContractLine(False, what, wants, "not mapped", fix)
            continue
        yield _camera(manifest, robot, image, name, taken.get(name), wants)
        taken[name] = image.role


def _camera(
    manifest: Manifest, robot: Robot, image: ImageInput, name: str, taken: str | None, wants: str
) -> ContractLine:
    what = f"camera '{image.role}'"
    camera = robot.cameras[name]
    says = f"{name} {camera.width}×{camera.height} at {camera.rate_hz:g} Hz on {camera.topic}"
    fix = ""
    if taken is not None:
        fix = (
            f"policy.cameras maps both '{taken}' and '{image.role}' to camera '{name}': policy "
            f"'{manifest.name}' needs a view of its own for each"
        )
    elif camera.width < image.width or camera.height < image.height:
        fix = (
            f"policy expects {what} {image.width}×{image.height}; robot '{robot.name}' camera '{name}' has "
            f"only {camera.width}×{camera.height}: run it at a higher resolution"
        )
    elif camera.rate_hz * manifest.outputs.dt_s < 1 - 1e-9:
        fix = (
            f"policy '{manifest.name}' was trained at {1 / manifest.outputs.dt_s:g} Hz; camera '{name}' "
            f"gives {camera.rate_hz:g} Hz: run it at a higher rate"
        )
    return ContractLine(not fix, what, wants, says, fix)


def _paired(manifest: Manifest, robot: Robot, role: str) -> tuple[str, Arm] | None:
    """The robot's arm (name, arm) that plays `role`; None when the robot has too few."""
    index = manifest.arms.index(role)
    return list(robot.arms.items())[index] if index < len(robot.arms) else None


def _states(bundle: Bundle, robot: Robot) -> Iterator[ContractLine]:
    yield from _slices("state", bundle.manifest.inputs.state, bundle.proprio, bundle.manifest, robot)


def _actions(bundle: Bundle, robot: Robot) -> Iterator[ContractLine]:
    manifest = bundle.manifest
    yield from _slices("action", manifest.outputs.action, bundle.action, manifest, robot)
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
    kind: str,
    parts: Sequence[StateSlice | ActionSlice],
    scaling: Scaling,
    manifest: Manifest,
    robot: Robot,
) -> Iterator[ContractLine]:
    begin = 0
    for part in parts:
        line = _slice(kind, part, manifest, robot)
        columns = slice(begin, begin + part.size)
        begin += part.size
        pair = _paired(manifest, robot, part.arm)
        if line.ok and pair is not None:
            wrong = outside(part, scaling.low[columns], scaling.high[columns], pair[1], robot.safety)
            if wrong:
                fix = (
                    f"policy '{manifest.name}': {manifest.normalisation.file}: {line.what}: {wrong}: "
                    f"statistics of another robot or in other units; export it with those of '{robot.name}'"
                )
                line = replace(line, ok=False, fix=fix)
        yield line


def _slice(kind: str, part: StateSlice | ActionSlice, manifest: Manifest, robot: Robot) -> ContractLine:
    what = f"{kind} {part.arm}.{part.signal}"
    wants = str(part.size)
    if part.rot6d:
        wants += f", rot6d by {part.rot6d}"
    if isinstance(part, ActionSlice):
        wants += f", {part.reference}"
    pair = _paired(manifest, robot, part.arm)
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
        says = f"{arm.tool_frame} in {arm.base_frame}, {len(arm.joints)} joints"
        if kind == "action":
            says += f", driver {arm.driver}"
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
