"""Smaller pictures have the mean light of what they show."""

from __future__ import annotations

import numpy as np

from kpn_cli.output.develop import to_srgb8
from kpn_cli.output.reduced import Reduced


def reduced(rgb, size, band):
    picture = Reduced(rgb.shape[:2], size)
    for top in range(0, len(rgb), band):
        picture.add(rgb[top : top + band])
    return picture.picture()


def test_a_fine_pattern_becomes_its_mean_light():
    rgb = np.zeros((60, 90, 3), np.uint16)
    rgb[::2, ::2] = rgb[1::2, 1::2] = 65535
    expected = to_srgb8(np.full((20, 30, 3), 32768, np.uint16))
    difference = reduced(rgb, (20, 30), 16).astype(int) - expected
    assert np.abs(difference).mean() < 20  # squares of three have one pixel more of one kind
    assert np.array_equal(reduced(rgb, (30, 45), 16), to_srgb8(np.full((30, 45, 3), 32768, "u2")))


def test_bands_change_nothing(rng):
    rgb = rng.integers(0, 65536, (101, 77, 3), dtype=np.uint16)
    whole = reduced(rgb, (41, 31), 101).astype(int)
    assert np.abs(reduced(rgb, (41, 31), 7) - whole).max() <= 1


def test_a_picture_of_full_size_is_unchanged(rng):
    rgb = rng.integers(0, 65536, (21, 17, 3), dtype=np.uint16)
    assert np.array_equal(reduced(rgb, (21, 17), 8), to_srgb8(rgb))
