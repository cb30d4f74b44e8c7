"""What the network sees: resize rule, state vector, tokenizer, target pixels."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.export.demo.encoding import COLORS, block_pixels, shrink, state_vector
from vla_ros.export.demo.text import MAX_TOKENS, PAD_ID, UNKNOWN_ID, build_tokenizer, encode
from vla_ros.sim.task import HOME_JOINTS, INSTRUCTIONS, draw_scene
from vla_ros.sim.world import World


def test_shrinking_averages_five_by_five_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    mean = image.reshape(96, 5, 128, 5, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(shrink(image).astype(float) - mean).max() <= 0.5 + 1e-6


def test_state_is_position_two_columns_and_width() -> None:
    tool = np.eye(4)
    tool[:3, :3] = np.arange(9).reshape(3, 3)
    tool[:3, 3] = 10, 11, 12
    state = state_vector(tool, 0.07)
    np.testing.assert_allclose(state, [10, 11, 12, 0, 3, 6, 1, 4, 7, 0.07])
    assert state.dtype == np.float32


def test_every_instruction_is_known_to_the_tokenizer() -> None:
    tokenizer = build_tokenizer()
    seen = set()
    for template in INSTRUCTIONS:
        for color in COLORS:
            ids = encode(tokenizer, template.format(color=color))
            assert ids.shape == (MAX_TOKENS,) and ids.dtype == np.int64
            assert UNKNOWN_ID not in ids
            assert tokenizer.token_to_id(color) in ids
            seen.add(tuple(ids))
    assert len(seen) == len(INSTRUCTIONS) * len(COLORS)


def test_case_does_not_matter_and_unknown_words_are_marked() -> None:
    tokenizer = build_tokenizer()
    np.testing.assert_array_equal(
        encode(tokenizer, "Pick up the RED block"), encode(tokenizer, "pick up the red block")
    )
    ids = encode(tokenizer, "pick up the shiny red block")
    assert (ids == UNKNOWN_ID).sum() == 1
    assert (ids[6:] == PAD_ID).all()


def test_too_many_words_are_refused() -> None:
    with pytest.raises(ValueError, match="17 words"):
        encode(build_tokenizer(), "red " * 17)


def test_pixels_of_blocks_out_of_view_are_nan() -> None:
    world = World()
    world.reset(draw_scene(0))
    world.place_arm(np.array(HOME_JOINTS), 0.08)
    blocks = np.tile(np.eye(4), (3, 1, 1))
    blocks[0, :3, 3] = 0.5, 0.0, 0.02
    blocks[1, :3, 3] = 2.0, 0.0, 0.7
    blocks[2, :3, 3] = 0.5, 5.0, 0.02
    found = block_pixels(world, "front", blocks)
    assert found[0, 0] == pytest.approx(0.5, abs=0.01)
    assert 0.3 < found[0, 1] < 0.8
    assert np.isnan(found[1:]).all()
