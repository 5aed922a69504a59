"""Frames that show nothing are told from dark and bright ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_pages import info_of

from kpn_cli.burst import tones

INFO = info_of(256, 320, black=(64.0,) * 4, white=1023.0)


def frame(signal: float, rng, noise: float = 3.0) -> np.ndarray:
    """A textured frame in DN, `(4, 128, 160)`; `signal` is its mean over white."""
    y, x = np.mgrid[:128, :160]
    scene = signal * (1 + 0.8 * np.sin(x / 9) * np.sin(y / 7))
    mosaic = 64 + 959 * scene + rng.normal(0, noise, (4, 128, 160))
    return np.clip(np.rint(mosaic), 0, 1023).astype(np.uint16)


def test_a_frame_is_black_if_no_part_of_it_is_brighter_than_the_black_level(rng):
    assert tones.blank(INFO, frame(0, rng)) == "black"
    assert tones.blank(INFO, frame(0.0002, rng)) == "black"  # a fifth of a DN
    assert tones.blank(INFO, frame(0.005, rng)) == ""


def test_hot_pixels_do_not_make_a_black_frame_bright(rng):
    dark = frame(0, rng)
    dark[rng.random(dark.shape) < 3e-3] = 900
    assert tones.blank(INFO, dark) == "black"


def test_a_small_light_in_the_dark_is_a_picture(rng):
    dark = frame(0, rng)
    dark[:, 32:64, 32:80] += 8
    assert tones.blank(INFO, dark) == ""


def test_a_frame_is_white_if_next_to_all_of_it_is_clipped(rng):
    bright = frame(30, rng)
    assert tones.blank(INFO, bright) == "white"
    bright[:, :20] = 500
    assert tones.blank(INFO, bright) == ""


@pytest.mark.parametrize("saturated", [None, 800.0])
def test_a_cell_is_clipped_if_any_of_its_planes_is(rng, saturated):
    mosaic = frame(0.2, rng)
    mosaic[2, :64] = saturated or 1023
    assert tones.clipped_share(replace(INFO, saturation=saturated), mosaic) == 0.5
