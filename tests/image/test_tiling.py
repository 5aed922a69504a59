"""Tiling is neutral: tiled equals whole for filters that fit into the halo."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.image import tiling

sizes = st.integers(1, 90)


@given(sizes, sizes, st.integers(1, 40), st.integers(0, 20), st.sampled_from([1, 2, 8]))
def test_the_identity_is_the_same_tiled_and_whole(height, width, tile, halo, grid):
    picture = np.random.default_rng(0).random((2, height, width), np.float32)
    out = tiling.blend(
        lambda rows, columns: picture[:, rows, columns],
        *picture.shape,
        tile=tile,
        halo=halo,
        grid=grid,
    )
    np.testing.assert_allclose(out, picture, rtol=0, atol=1e-6)


@given(sizes, sizes, st.integers(1, 40), st.integers(4, 20))
def test_a_filter_within_three_quarters_of_the_halo_is_the_same_tiled_and_whole(
    height, width, tile, halo
):
    picture = np.random.default_rng(1).random((1, height, width), np.float32)

    def blur(part: np.ndarray) -> np.ndarray:
        padded = np.pad(part, ((0, 0), (3, 3), (3, 3)))
        return sum(
            padded[:, i : i + part.shape[1], j : j + part.shape[2]]
            for i in range(7)
            for j in range(7)
        )

    out = tiling.blend(
        lambda rows, columns: blur(picture[:, rows, columns]),
        *picture.shape,
        tile=tile,
        halo=halo,
    )
    np.testing.assert_allclose(out, blur(picture), rtol=0, atol=1e-4)


@given(st.integers(1, 300), st.integers(1, 80), st.integers(0, 30), st.sampled_from([1, 4, 8]))
def test_the_weights_of_all_tiles_sum_to_one_at_every_sample(length, tile, halo, grid):
    total = np.zeros(length)
    for span in tiling.spans(length, tile, halo, grid):
        assert span.start % grid == 0
        assert span.weight.min() >= 0
        total[span.slice] += span.weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_tile_is_no_longer_than_its_length_and_three_halos():
    for span in tiling.spans(10_000, 256, 32, 8):
        assert span.stop - span.start <= 256 + 3 * 32


def test_on_tile_is_called_once_for_every_tile():
    calls = []
    tiling.blend(
        lambda rows, columns: np.zeros((1, rows.stop - rows.start, columns.stop - columns.start)),
        1,
        100,
        70,
        tile=32,
        halo=4,
        on_tile=lambda: calls.append(1),
    )
    assert len(calls) == tiling.count(100, 70, 32, 4) == 4 * 3
