"""Training checkpoint to policy bundle: three ONNX graphs, checked against torch, and the manifest.

    prefix.onnx       image.front, image.wrist, tokens, state -> keys, values
    step.onnx         keys, values, x, t -> velocity
    step_guided.onnx  keys, values, x, t, target, weights -> velocity, correction

The training by-products are left out. Pixels are scaled inside the graph, state and actions on the
host. Weights lie inside the .onnx files.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from vla_ros.action.normalise import normalise
from vla_ros.export.demo.dataset import Demonstrations, Statistics
from vla_ros.export.demo.encoding import VIEWS
from vla_ros.export.demo.expert import ACTION_SIZE, HORIZON
from vla_ros.export.demo.manifest import NAME, manifest_fields
from vla_ros.export.demo.model import DemoPolicy, sample
from vla_ros.export.demo.text import build_tokenizer
from vla_ros.export.demo.train import load_policy
from vla_ros.export.guided import INPUTS, OUTPUTS, GuidedStep, sample_guided
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.parity import ParityCase, parity_bytes, run_parity
from vla_ros.policy.rtc import Guidance, soft_weights

PARITY_CASES = 4
FROZEN = 3
PARITY_TOLERANCE = 2e-3
LATENCY_RUNS = 60
SIZE_LIMIT = 25 * 2**20

console = Console()


class Prefix(nn.Module):
    """The first graph."""

    def __init__(self, model: DemoPolicy) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, image_front: Tensor, image_wrist: Tensor, tokens: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`DemoPolicy.prefix`."""
        return self.model.prefix(image_front, image_wrist, tokens, state)


class Step(nn.Module):
    """The second graph."""

    def __init__(self, model: DemoPolicy) -> None:
        super().__init__()
        self.model = model

    def forward(self, keys: Tensor, values: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """See :meth:`DemoPolicy.velocity`."""
        return self.model.velocity(keys, values, x, t)


def export_graph(
    module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str]
) -> bytes:
    """ONNX bytes of ``module`` with fixed shapes and the given input and output names."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module, inputs, dynamo=True, input_names=names, output_names=outputs, verbose=False
        )
    if program is None:
        raise RuntimeError(f"torch.onnx.export gave nothing for {type(module).__name__}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        program.save(str(path), external_data=False)
        graph = onnx.load(str(path))
    onnx.checker.check_model(graph, full_check=True)
    found = [i.name for i in graph.graph.input], [o.name for o in graph.graph.output]
    if found != (names, outputs):
        raise RuntimeError(f"the exporter renamed inputs or outputs: {found}")
    _drop_traces(graph)
    return graph.SerializeToString()


def _drop_traces(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: stack traces, with the paths of the machine that exported."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    del model.metadata_props[:]


def parity_cases(
    model: DemoPolicy, demonstrations: Demonstrations, proprio: Statistics, steps: int
) -> list[ParityCase]:
    """Observations of the demonstrations with the chunk that torch computes from them, plain and guided.

    Guidance is towards the chunk of another noise, as if three rows had been carried out meanwhile."""
    rng = np.random.default_rng(0)
    cases = []
    for number in rng.integers(len(demonstrations), size=PARITY_CASES):
        shard_index, row = demonstrations.index[number]
        shard = demonstrations.shards[shard_index]
        color = int(shard["colors"][row, shard["target"][row]])
        state = normalise(shard["state"][row], proprio.scaling).astype(np.float32)
        inputs: dict[str, NDArray[Any]] = {
            f"image.{view}": shard["images"][row, i][None] for i, view in enumerate(VIEWS)
        }
        inputs["tokens"] = demonstrations.tokens[color, int(rng.integers(3))].numpy()[None]
        inputs["state"] = state[None]
        noise = rng.standard_normal((HORIZON, ACTION_SIZE), dtype=np.float32)
        with torch.no_grad():
            context = model.prefix(*(torch.from_numpy(v) for v in inputs.values()))
            chunk = sample(model, *context, torch.from_numpy(noise)[None], steps)
            other = torch.from_numpy(rng.standard_normal((1, HORIZON, ACTION_SIZE), dtype=np.float32))
            target = sample(model, *context, other, steps)[0].numpy()
        guidance = Guidance(target, soft_weights(HORIZON, FROZEN, HORIZON - FROZEN), FROZEN)
        velocity = partial(model.velocity, *context)
        guided = sample_guided(velocity, torch.from_numpy(noise)[None], steps, guidance)
        cases.append(ParityCase(inputs, noise, chunk[0].numpy(), guidance, guided[0].numpy()))
    return cases


def measure(bundle: Bundle, cases: list[ParityCase]) -> tuple[float, float]:
    """p50 and p99 of one inference [ms]."""
    policy = OnnxPolicy(bundle, threads=1)
    policy.warm_up()
    times = []
    for run in range(LATENCY_RUNS):
        case = cases[run % len(cases)]
        started = time.perf_counter()
        policy.infer(case.inputs, case.noise)
        times.append((time.perf_counter() - started) * 1e3)
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def main(
    checkpoint: Annotated[Path, typer.Option()] = Path("build/demo/policy.pt"),
    data: Annotated[Path, typer.Option(help="Shards, for parity cases")] = Path("build/demo/data"),
    out: Annotated[Path, typer.Option(help="Bundle directory")] = Path("policies/franka_pick"),
    card: Annotated[Path | None, typer.Option(help="Copied into the bundle as README.md")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Euler steps")] = 8,
) -> None:
    """Export the averaged weights of a checkpoint as a policy bundle and rerun its parity file."""
    torch.set_num_threads(1)
    model, action, proprio = load_policy(checkpoint)
    tokenizer = build_tokenizer()
    shards = sorted(p for p in data.glob("shard_*.npz") if "partial" not in p.name)
    cases = parity_cases(model, Demonstrations(shards[-1:], tokenizer), proprio, steps)
    example = tuple(torch.from_numpy(v) for v in cases[0].inputs.values())
    with torch.no_grad():
        keys, values = model.prefix(*example)
    console.print("exporting prefix")
    prefix = export_graph(Prefix(model), example, list(cases[0].inputs), ["keys", "values"])
    console.print("exporting step")
    x = torch.from_numpy(cases[0].noise)[None]
    step = export_graph(
        Step(model), (keys, values, x, torch.zeros(1)), ["keys", "values", "x", "t"], ["velocity"]
    )
    console.print("exporting guided step")
    ends = (keys, values, x, torch.zeros(1))
    guided = export_graph(
        GuidedStep(model.velocity, ends),
        (*ends, torch.zeros_like(x), torch.ones(x.shape[:2])),
        ["keys", "values", *INPUTS],
        list(OUTPUTS),
    )
    statistics = {NAME: {"action": action.to_json(), "proprio": proprio.to_json()}}
    files: dict[str, bytes | Path] = {
        "prefix.onnx": prefix,
        "step.onnx": step,
        "step_guided.onnx": guided,
        "dataset_statistics.json": json.dumps(statistics, indent=1).encode(),
        "tokenizer.json": tokenizer.to_str(pretty=True).encode(),
        "parity.npz": parity_bytes(cases, PARITY_TOLERANCE),
    }
    if card is not None:
        files["README.md"] = card.read_bytes()
    elif (out / "README.md").exists():
        files["README.md"] = (out / "README.md").read_bytes()
    size = sum(len(v) for v in files.values() if isinstance(v, bytes))
    if size > SIZE_LIMIT:
        raise SystemExit(f"the bundle would be {size / 2**20:.1f} MB, the limit is 25 MB")
    draft = write_bundle(out, manifest_fields(steps, (0.0, 0.0)), files)
    latency = measure(draft, cases)
    bundle = write_bundle(out, manifest_fields(steps, latency), files)
    result = run_parity(bundle, OnnxPolicy(bundle, threads=1))
    console.print(
        f"{out}: {size / 2**20:.1f} MB, inference p50 {latency[0]:.1f} ms, parity error "
        f"{result.max_error:.2e} (allowed {result.tolerance:g}), cosine {result.cosine:.6f}"
    )
    if not result.ok:
        raise SystemExit("the exported graphs do not reproduce torch: do not use this bundle")


if __name__ == "__main__":
    typer.run(main)
