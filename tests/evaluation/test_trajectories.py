from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.evaluation.trajectories import chunk_disagreement, seconds, thin, tracking_lag_s
from vla_ros.recording.episode import RecordedChunk, Signal

T0 = 1_700_000_000_000_000_000
CHANNELS = ("arm/tcp/position.x", "arm/tcp/position.y")


def _chunk(start_s: float, offset: float) -> RecordedChunk:
    due = T0 + ((start_s + 0.1 * np.arange(1, 17)) * 1e9).round().astype(np.int64)
    at = seconds(due, T0)
    return RecordedChunk(
        T0 + int(start_s * 1e9), 0, due, CHANNELS, np.stack([0.3 * at + offset, np.zeros(16)], axis=1)
    )


def test_chunks_on_one_line_agree_whatever_their_grid() -> None:
    found = chunk_disagreement([_chunk(0.0, 0.0), _chunk(0.13, 0.0), _chunk(0.31, 0.0)], CHANNELS)
    np.testing.assert_allclose(found, 0.0, atol=1e-9)
    assert found.shape == (2,)


def test_disagreement_is_the_distance_between_neighbours() -> None:
    found = chunk_disagreement([_chunk(0.0, 0.0), _chunk(0.13, 0.02)], CHANNELS)
    np.testing.assert_allclose(found, 0.02, atol=1e-9)


def test_chunks_that_never_meet_say_nothing() -> None:
    assert chunk_disagreement([_chunk(0.0, 0.0), _chunk(9.0, 0.0)], CHANNELS).size == 0
    assert chunk_disagreement([_chunk(0.0, 0.0), _chunk(0.1, 0.0)], ("arm/joint1",)).size == 0


@given(st.integers(0, 500), st.floats(1, 200))
def test_thinning_keeps_ends_and_rate(count: int, rate: float) -> None:
    stamps = T0 + np.arange(count, dtype=np.int64) * 10_000_000
    signal = Signal(("a",), stamps, np.arange(count, dtype=float)[:, None])
    thinned = thin(signal, rate)
    assert np.isin(thinned.stamps_ns, stamps).all() and (np.diff(thinned.stamps_ns) > 0).all()
    if count >= 3:
        assert (thinned.stamps_ns[0], thinned.stamps_ns[-1]) == (stamps[0], stamps[-1])
        assert len(thinned.stamps_ns) <= max(3, round(count * 0.01 * rate) + 2)


@pytest.mark.parametrize("lag", [0.0, 0.04, 0.12])
def test_a_known_lag_is_found(lag: float) -> None:
    at = np.arange(0, 5, 0.01)
    stamps = T0 + (at * 1e9).astype(np.int64)
    command = Signal(("arm/joint1",), stamps, np.sin(2 * at)[:, None])
    measured = Signal(("j1",), stamps + 3_000_000, np.sin(2 * (at + 0.003 - lag))[:, None])
    assert tracking_lag_s(command, measured, [("arm/joint1", "j1")]) == pytest.approx(lag, abs=0.003)


def test_a_still_arm_has_no_lag_to_measure() -> None:
    stamps = T0 + np.arange(500, dtype=np.int64) * 10_000_000
    still = np.zeros((500, 1))
    assert tracking_lag_s(Signal(("a",), stamps, still), Signal(("b",), stamps, still), [("a", "b")]) is None
