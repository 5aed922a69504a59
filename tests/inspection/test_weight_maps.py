"""Maps of large pictures are means of small ones."""

from __future__ import annotations

import numpy as np
from inspected_bursts import options, still, write_burst

from kpn_cli.inspection import inspect, weight_maps
from kpn_cli.synthesis.protocol import noise_of_gain


def test_maps_of_large_pictures_are_means_of_small_ones(tmp_path, lively, monkeypatch):
    """Whatever the tiles; 4 does not divide 70 and 90."""
    paths = write_burst(tmp_path / "burst", still(2, 70, 90), noise_of_gain(1))
    full = inspect.inspect(paths, options(tmp_path, lively, tile=64), [(9, 9)]).maps
    monkeypatch.setattr(weight_maps, "_LONG", 23)
    pooled = inspect.inspect(paths, options(tmp_path, lively, tile=64), [(9, 9)]).maps
    assert (full.cells, pooled.cells) == (1, 4)
    for name in ("weights", "share", "clean", "reference"):
        whole, small = getattr(full, name), getattr(pooled, name)
        assert small.shape[-2:] == (18, 23)
        for row, column in ((0, 0), (7, 11), (17, 22)):
            block = whole[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_allclose(small[..., row, column], block.mean((-2, -1)), atol=1e-6)
