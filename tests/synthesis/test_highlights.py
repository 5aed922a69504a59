"""Highlights beyond the photo's white."""

from __future__ import annotations

import numpy as np
from pictures import scene

from kpn_cli.synthesis.highlights import with_highlights


def test_the_brightest_regions_rise_by_the_factor_and_dark_ones_stay():
    picture = scene(3, 400, 500)
    bright = with_highlights(picture, 8)
    ratio = bright.channels[1] / np.maximum(picture.channels[1], 1)
    assert np.isclose(ratio.max(), 8, rtol=0.01)
    assert np.mean(ratio == 1) > 0.7
    assert bright.channels.max() > 2 * 65535
    assert np.abs(np.diff(np.log2(np.maximum(ratio, 1)))).max() < 0.5  # EV; no step


def test_colours_stay():
    picture = scene(3, 400, 500)
    red, green, blue = with_highlights(picture, 8).channels / np.maximum(picture.channels, 1)
    usable = picture.channels.min(0) > 1000
    np.testing.assert_allclose(red[usable], green[usable], rtol=1e-3)
    np.testing.assert_allclose(blue[usable], green[usable], rtol=1e-3)


def test_a_factor_of_one_changes_nothing():
    picture = scene(3, 100, 100)
    assert with_highlights(picture, 1) is picture
