"""Intervals against NumPy on copied samples, and against theory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.reporting.compare.bootstrap import Clustered, draws, interval

QUANTILES = (0.0, 0.25, 0.5, 0.9, 0.999, 1.0)
drawn = st.lists(st.tuples(st.integers(0, 3), st.lists(st.floats(-1e3, 1e3), max_size=6)), min_size=1, max_size=6)


@given(drawn)
def test_weighed_samples_give_what_numpy_gives_for_copied_ones(clusters: list[tuple[int, list[float]]]) -> None:
    counts = np.array([count for count, _ in clusters])
    copied = [value for count, values in clusters for value in values * count]
    clustered = Clustered([values for _, values in clusters])
    found = clustered.percentiles(counts, QUANTILES)
    if copied:
        assert found == pytest.approx(np.percentile(copied, [100 * q for q in QUANTILES]))
        assert clustered.mean(counts) == pytest.approx(np.mean(copied), abs=1e-9)
    else:
        assert np.isnan(found).all()
        assert np.isnan(clustered.mean(counts))


def test_a_resample_draws_as_many_conversations_as_there_are() -> None:
    counts = np.array(draws(7, seed=3))
    assert (counts.sum(axis=1) == 7).all()
    assert counts.mean() == pytest.approx(1.0)
    assert (counts == np.array(draws(7, seed=3))).all()


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    """1.96 standard errors either way, for the mean of 400 normal conversations of one sample."""
    samples = np.random.default_rng(5).normal(10.0, 2.0, 400)
    clustered = Clustered([[sample] for sample in samples])
    found = interval(np.array([clustered.mean(counts) for counts in draws(400, seed=1)]))
    assert found is not None
    half = 1.96 * samples.std() / 20
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_samples_of_one_conversation_are_not_counted_as_independent() -> None:
    """A hundred equal samples carry no more information than one."""
    values = np.random.default_rng(6).normal(10.0, 2.0, 50)
    widths = []
    for copies in (1, 100):
        clustered = Clustered([[value] * copies for value in values])
        found = interval(np.array([clustered.mean(counts) for counts in draws(50, seed=1)]))
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[0] == pytest.approx(widths[1])


def test_no_interval_if_a_resample_had_no_samples() -> None:
    assert interval(np.array([1.0, np.nan])) is None
