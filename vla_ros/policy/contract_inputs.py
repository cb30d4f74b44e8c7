"""The inputs' part of the contract: does this robot show the policy what it was trained on?"""

from __future__ import annotations

from collections.abc import Iterator

from vla_ros.action.normalise import Scaling
from vla_ros.errors import ContractError
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.contract_line import ContractLine, base_line, gripper_line, paired, statistics_fix
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_inputs import ImageInput, StateSlice
from vla_ros.policy.prompt import fixed_words
from vla_ros.policy.ranges import possible_state
from vla_ros.robot.cameras import shown_size
from vla_ros.robot.config import Arm, Robot


def input_lines(bundle: Bundle, robot: Robot) -> Iterator[ContractLine]:
    """Cameras, state, prompt and history, in this order; the prompt only where it is none or more than the
    instruction, the history only where there is one."""
    manifest = bundle.manifest
    yield from _cameras(manifest, robot)
    begin = 0
    for part in manifest.inputs.state:
        yield _state(manifest, part, slice(begin, begin + part.size), bundle.proprio, robot)
        begin += part.size
    yield from _prompt(manifest, robot)
    yield from _history(manifest, robot)


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
        if name is None and image.optional:
            yield ContractLine(True, what, f"{wants}, or none", "none: black, and masked")
            continue
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
    camera, window = robot.cameras[name], manifest.inputs.window
    width, height = shown_size(camera)
    says = f"{name} {width}×{height} at {camera.rate_hz:g} Hz on {camera.topic}"
    fix = ""
    if taken is not None:
        fix = (
            f"policy.cameras maps both '{taken}' and '{image.role}' to camera '{name}': policy "
            f"'{manifest.name}' needs a view of its own for each"
        )
    elif width < image.width or height < image.height:
        cut = (width, height) != (camera.width, camera.height)
        fix = (
            f"policy expects {what} {image.width}×{image.height}; robot '{robot.name}' camera '{name}' has "
            f"only {width}×{height}{' after rotate and crop' if cut else ''}: run it at a higher resolution"
            f"{', or crop less' if camera.crop is not None else ''}"
        )
    elif window is not None and "images" in window.of and camera.rate_hz * window.stride_s < 1 - 1e-9:
        fix = (
            f"policy '{manifest.name}' sees a frame every {window.stride_s:g} s; camera '{name}' gives "
            f"{camera.rate_hz:g} Hz: run it at a higher rate"
        )
    elif camera.rate_hz * manifest.outputs.step_s < 1 - 1e-9:
        fix = (
            f"policy '{manifest.name}' was trained at {1 / manifest.outputs.step_s:g} Hz; camera '{name}' "
            f"gives {camera.rate_hz:g} Hz: run it at a higher rate"
        )
    return ContractLine(not fix, what, wants, says, fix)


def _state(
    manifest: Manifest, part: StateSlice, columns: slice, scaling: Scaling, robot: Robot
) -> ContractLine:
    if part.arm is None:
        if part.signal == "base_velocity":
            return base_line(manifest, robot, "state", columns, scaling)
        return ContractLine(True, "state padding", f"{part.size} zeros", "zeros, as declared")
    what = f"state {part.arm}.{part.signal}"
    wants = ", ".join([str(part.size), *part.form])
    pair = paired(manifest, robot, part.arm)
    if pair is None:
        fix = f"policy '{manifest.name}' uses arm '{part.arm}', which robot '{robot.name}' has not"
        return ContractLine(False, what, wants, "no such arm", fix)
    name, arm = pair
    says, fix = _measured(manifest, part, name, arm, robot)
    if not fix:
        possible = possible_state(part, arm, robot.safety)
        fix = statistics_fix(manifest, robot, "state", what, columns, scaling, possible)
    return ContractLine(not fix, what, wants, says, fix)


def _measured(manifest: Manifest, part: StateSlice, name: str, arm: Arm, robot: Robot) -> tuple[str, str]:
    """(what the robot has of this slice, the fix where it has not enough)."""
    if part.signal == "gripper":
        return gripper_line(manifest, name, arm, robot)
    if part.signal == "joint_position":
        says = f"{len(arm.joints)} joints, driver {arm.driver}"
        if part.size != len(arm.joints):
            return says, (
                f"policy '{manifest.name}' has {part.size} joint positions for arm '{part.arm}'; robot "
                f"'{robot.name}' arm '{name}' has {len(arm.joints)} joints"
            )
        return says, ""
    return f"{arm.tool_frame} in {arm.base_frame}, {len(arm.joints)} joints", ""


def _prompt(manifest: Manifest, robot: Robot) -> Iterator[ContractLine]:
    prompt = manifest.inputs.prompt
    if prompt is None:
        yield ContractLine(True, "prompt", "no prompt", "any is refused")
        return
    template = prompt.template
    if prompt.holds <= {"instruction"}:
        return
    try:
        words = fixed_words(manifest, robot)
    except ContractError as error:
        yield ContractLine(
            False, "prompt", template, f"{len(robot.arms)} arms", f"policy '{manifest.name}': {error}"
        )
    else:
        says = ", ".join(f"{name}: {text}" for name, text in words.items())
        yield ContractLine(True, "prompt", template, says or "as it is")


def _history(manifest: Manifest, robot: Robot) -> Iterator[ContractLine]:
    window = manifest.inputs.window
    if window is None:
        return
    wants = f"{window.frames} of {' and '.join(window.of)}, every {window.stride_s:g} s"
    yield ContractLine(True, "history", wants, f"{window.past_s:g} s are kept of each stream")
