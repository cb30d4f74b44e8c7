"""The network, its training pieces and its export, on random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from vla_ros.export.demo import train  # noqa: E402
from vla_ros.export.demo.dataset import Demonstrations, Statistics  # noqa: E402
from vla_ros.export.demo.export import main as export_bundle  # noqa: E402
from vla_ros.export.demo.model import Config, DemoPolicy, pixels, sample  # noqa: E402
from vla_ros.export.demo.text import UNKNOWN_ID, build_tokenizer, encode  # noqa: E402
from vla_ros.policy.bundle import load_bundle  # noqa: E402
from vla_ros.policy.onnx_backend import OnnxPolicy  # noqa: E402
from vla_ros.policy.parity import read_parity, run_parity  # noqa: E402

FRAMES = 40
SMALL = {"width": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 2}


def _write_shard(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    eye = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    blocks = np.tile(eye[:, None], (1, 3, 1, 1))
    blocks[..., :3, 3] = rng.uniform(-0.3, 0.3, (FRAMES, 3, 3))
    pixels_of = rng.uniform(0.1, 0.9, (FRAMES, 2, 3, 2)).astype(np.float32)
    pixels_of[::5] = np.nan
    np.savez(
        path,
        images=rng.integers(0, 256, (FRAMES, 2, 96, 128, 3)).astype(np.uint8),
        state=rng.normal(size=(FRAMES, 10)).astype(np.float32),
        labels=rng.normal(size=(FRAMES, 3, 16, 10)).astype(np.float32),
        tool=eye,
        blocks=blocks,
        pixels=pixels_of,
        colors=np.tile(np.array([0, 2, 4], np.uint8), (FRAMES, 1)),
        target=rng.integers(0, 3, FRAMES).astype(np.uint8),
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed in range(2):
        _write_shard(folder / f"shard_{seed:06d}.npz", seed)
    return folder


@pytest.fixture(scope="module")
def model() -> DemoPolicy:
    torch.manual_seed(0)
    return DemoPolicy(Config(build_tokenizer().get_vocab_size(), **SMALL)).eval()


def _inputs(instruction: str = "pick up the red block") -> tuple:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (2, 1, 96, 128, 3), dtype=torch.uint8, generator=generator)
    tokens = torch.from_numpy(encode(build_tokenizer(), instruction))[None]
    return image[0], image[1], tokens, torch.randn(1, 10, generator=generator)


def test_shapes_and_repeatability(model: DemoPolicy) -> None:
    with torch.no_grad():
        keys, values = model.prefix(*_inputs())
        assert keys.shape == values.shape == (2, 1, 2, 19, 16)
        noise = torch.randn(1, 16, 10)
        first = sample(model, keys, values, noise, 4)
        assert first.shape == (1, 16, 10)
        torch.testing.assert_close(first, sample(model, keys, values, noise, 4))


def test_every_input_matters(model: DemoPolicy) -> None:
    reference = _inputs()
    with torch.no_grad():
        base, _ = model.prefix(*reference)
        other = _inputs("pick up the blue block")[2]
        for index, change in enumerate((255 - reference[0], 255 - reference[1], other, reference[3] + 1)):
            changed = list(reference)
            changed[index] = change
            keys, _ = model.prefix(*changed)
            assert (keys - base).abs().max() > 1e-4, index


def test_padding_does_not_matter(model: DemoPolicy) -> None:
    with torch.no_grad():
        before = model.words.weight[0].clone()
        base, _ = model.prefix(*_inputs())
        model.words.weight[0] += 5.0
        keys, _ = model.prefix(*_inputs())
        model.words.weight[0] = before
    torch.testing.assert_close(keys, base)


def test_pixels_are_scaled_inside() -> None:
    image = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    torch.testing.assert_close(pixels(image).flatten(), torch.tensor([-1.0, 1.0, -0.6]))


def test_statistics_leave_nearly_constant_channels_alone() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.uniform(-1, 1, 4000), rng.uniform(0, 0.04, 4000)], axis=1)
    statistics = Statistics.of(rows.astype(np.float32))
    assert statistics.mask.tolist() == [True, False]
    assert statistics.q01[0] == pytest.approx(-0.98, abs=0.02)
    assert set(statistics.to_json()) == {"q01", "q99", "min", "max", "mean", "std", "mask"}


def test_batches_repeat_and_name_the_chosen_block(shards: Path) -> None:
    tokenizer = build_tokenizer()
    data = Demonstrations(sorted(shards.glob("*.npz")), tokenizer)
    assert len(data) == 2 * FRAMES
    action, proprio = data.statistics()
    first, second = (
        data.batch(np.random.default_rng(3), 64, action, proprio, augment=True) for _ in range(2)
    )
    for a, b in zip(vars(first).values(), vars(second).values(), strict=True):
        pairs = zip(a, b, strict=True) if isinstance(a, list) else [(a, b)]
        for left, right in pairs:
            torch.testing.assert_close(left, right, equal_nan=True)
    # Colours 0, 2 and 4 are the only ones in these scenes; word dropout spares them.
    known = {tokenizer.token_to_id(c) for c in ("blue", "orange", "red")}
    assert all(known & set(row) for row in first.tokens.tolist())
    assert (first.tokens == UNKNOWN_ID).any()
    clean = data.batch(np.random.default_rng(3), 64, action, proprio, augment=False)
    assert not (clean.tokens == UNKNOWN_ID).any()


def test_losses_go_down_and_a_run_resumes(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "Config", lambda vocabulary: Config(vocabulary, **SMALL))
    out = tmp_path / "policy.pt"
    options = {"batch_size": 16, "rate": 1e-3, "seed": 0, "start_from": None}
    options |= {"processes": 1, "port": 0}
    train.main(shards, out, 20, **options)
    assert train.load_checkpoint(out)["step"] == 20
    train.main(shards, out, 40, **options)
    saved = train.load_checkpoint(out)
    assert saved["step"] == 40
    assert [row["step"] for row in saved["history"]] == [20, 40]
    assert saved["history"][1]["flow"] < saved["history"][0]["flow"]
    _, action, _ = train.load_policy(out)
    assert action.q01.shape == (10,)


@pytest.mark.complaint("openpi 982", "GR00T 471")
def test_export_reproduces_torch(shards: Path, model: DemoPolicy, tmp_path: Path) -> None:
    action, proprio = Demonstrations(sorted(shards.glob("*.npz")), build_tokenizer()).statistics()
    checkpoint = tmp_path / "policy.pt"
    content = {"config": model.config, "average": model.state_dict()}
    torch.save({**content, "action": action, "proprio": proprio}, checkpoint)
    card = tmp_path / "card.md"
    card.write_text("# Card\n")
    out = tmp_path / "bundle"
    export_bundle(checkpoint, shards, out, card, 4)
    bundle = load_bundle(out)
    assert bundle.manifest.sampler.steps == 4
    assert (out / "README.md").read_text() == "# Card\n"
    np.testing.assert_allclose(bundle.action.low, action.q01, rtol=1e-6)
    policy = OnnxPolicy(bundle, threads=1)
    assert run_parity(bundle, policy).ok
    # The check has teeth: another instruction's chunk is not taken for the recorded one.
    cases, tolerance = read_parity(bundle.path("parity.npz"))
    case = cases[0]
    inputs = {**case.inputs, "state": case.inputs["state"] + 1.0}
    assert np.abs(policy.infer(inputs, case.noise).values - case.expected).max() > tolerance
