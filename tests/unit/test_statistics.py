"""Sufficient statistics: exact against Python integers, whatever the blocks, up to the largest entries a specification allows."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.learning.features import LARGEST_QUANTISED_ENTRY, IntMatrix
from hessian.learning.plain import ShapeRefused
from hessian.learning.statistics import InexactSum, StatisticsRefused, SufficientStatistics, accumulate, pooled

entries = st.integers(-LARGEST_QUANTISED_ENTRY, LARGEST_QUANTISED_ENTRY)


@st.composite
def rows_and_cuts(draw: st.DrawFn) -> tuple[IntMatrix, IntMatrix, list[int]]:
    d, n = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    x = np.array(draw(st.lists(st.lists(entries, min_size=d, max_size=d), min_size=n, max_size=n)), dtype=np.int64)
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), dtype=np.int64)
    return x, y, sorted(draw(st.lists(st.integers(0, n), max_size=4)))


def reference(x: IntMatrix, y: IntMatrix) -> SufficientStatistics:
    rows, labels = x.tolist(), y.tolist()
    d = x.shape[1]
    gram = tuple(tuple(sum(row[i] * row[j] for row in rows) for j in range(d)) for i in range(d))
    return SufficientStatistics(
        len(rows), gram, tuple(sum(row[i] * (2 * label - 1) for row, label in zip(rows, labels, strict=True)) for i in range(d))
    )


@given(rows_and_cuts())
@settings(deadline=None)
def test_accumulate__any_partition_into_blocks__equals_python_integers(data: tuple[IntMatrix, IntMatrix, list[int]]) -> None:
    x, y, cuts = data
    blocks = list(zip(np.split(x, cuts), np.split(y, cuts), strict=True))

    assert accumulate(blocks, x.shape[1]) == reference(x, y)


@given(rows_and_cuts())
@settings(deadline=None)
def test_pooled__parts_of_the_rows__equals_all_rows(data: tuple[IntMatrix, IntMatrix, list[int]]) -> None:
    x, y, cuts = data
    parts = [accumulate([block], x.shape[1]) for block in zip(np.split(x, cuts), np.split(y, cuts), strict=True)]

    assert pooled(parts) == reference(x, y)


def test_accumulate__sums_beyond_64_bits__stay_exact() -> None:
    block = np.full((4096, 1), LARGEST_QUANTISED_ENTRY, dtype=np.int64), np.ones(4096, dtype=np.int64)

    statistics = accumulate([block] * 3, 1)

    assert statistics.gram == ((3 * 4096 * LARGEST_QUANTISED_ENTRY**2,),)
    assert statistics.gram[0][0] > 2**63
    assert statistics.moment == (3 * 4096 * LARGEST_QUANTISED_ENTRY,)


def test_accumulate__entry_whose_square_float64_cannot_hold__stops_loudly() -> None:
    with pytest.raises(InexactSum):
        accumulate([(np.array([[2**27]], dtype=np.int64), np.array([1], dtype=np.int64))], 1)


def test_accumulate__wrong_width__is_refused() -> None:
    with pytest.raises(StatisticsRefused):
        accumulate([(np.ones((2, 3), dtype=np.int64), np.ones(2, dtype=np.int64))], 2)


def test_accumulate__many_blocks__holds_no_earlier_block() -> None:
    earlier: list[weakref.ref[IntMatrix]] = []

    def blocks() -> Iterator[tuple[IntMatrix, IntMatrix]]:
        for _ in range(20):
            assert all(block() is None for block in earlier[:-1])
            features = np.ones((100, 2), dtype=np.int64)
            earlier.append(weakref.ref(features))
            yield features, np.zeros(100, dtype=np.int64)

    assert accumulate(blocks(), 2) == SufficientStatistics(2000, ((2000, 2000), (2000, 2000)), (-2000, -2000))


@given(rows_and_cuts())
@settings(deadline=None)
def test_from_plain__of_to_plain_through_json__is_the_same(data: tuple[IntMatrix, IntMatrix, list[int]]) -> None:
    statistics = reference(data[0], data[1])

    assert SufficientStatistics.from_plain(json.loads(json.dumps(statistics.to_plain()))) == statistics


@pytest.mark.parametrize(
    "change",
    [{"gram": ["1", "2"]}, {"gram": ["1.5"]}, {"gram": ["٣"]}, {"gram": ["--1"]}, {"rows": -1}, {"rows": 1.0}, {"more": 1}, {"moment": []}],
)
def test_from_plain__wrong_shape__is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ShapeRefused):
        SufficientStatistics.from_plain({"rows": 1, "gram": ["1"], "moment": ["1"], **change})


def test_repr__statistics__shows_no_numbers_of_the_rows() -> None:
    assert repr(SufficientStatistics(3, ((123456,),), (654321,))) == "SufficientStatistics(rows=3, dimension=1)"
