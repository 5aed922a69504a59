"""Maps of large pictures are averages."""

from __future__ import annotations

import numpy as np
from inspected_bursts import options, still, write_burst

from kpn_cli.inspection import inspect
from kpn_cli.synthesis.protocol import noise_of_gain


def test_a_map_s_sample_is_the_mean_of_its_cells(tmp_path, lively):
    """Across tiles too, and at the border: 4 divides neither 70 nor 90."""
    paths = write_burst(tmp_path / "burst", still(2, 70, 90), noise_of_gain(1))
    how = options(tmp_path, lively, tile=64)
    full = inspect.inspect(paths, how, [(9, 9)]).maps
    pooled = inspect.inspect(paths, how, [(9, 9)], longest_map_side=23).maps
    assert (full.cells, pooled.cells) == (1, 4)
    for name in ("weights", "kernel_share", "clean", "reference"):
        whole, small = getattr(full, name), getattr(pooled, name)
        assert small.shape[-2:] == (18, 23)
        for row, column in ((0, 0), (7, 11), (17, 22)):
            block = whole[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_allclose(small[..., row, column], block.mean((-2, -1)), atol=1e-6)
