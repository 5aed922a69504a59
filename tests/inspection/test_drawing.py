"""Colour scales and labels of the figures."""

from __future__ import annotations

import numpy as np

from kpn_cli.inspection import drawing


def test_colour_scales_have_the_colours_that_they_document():
    ends = drawing.diverging(np.array([0, 0.5, 1, -3, 7, np.nan]))
    assert ends[0, 2] > ends[0, 0] and ends[2, 0] > ends[2, 2]  # blue, red
    assert np.ptp(ends[1]) <= 3 and ends[1].min() > 240
    np.testing.assert_array_equal(ends[[3, 4]], ends[[0, 2]])
    grey = drawing.sequential(np.linspace(0, 1, 50)) @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) > 0).all()
    still = drawing.directions(np.zeros((2, 2, 2)), 5)
    assert (still == 255).all()
    right, down = drawing.directions(np.array([[0.0, 5], [5, 0]]), 5)
    assert np.abs(right.astype(int) - down).max() > 100


def test_long_names_are_shortened_in_the_middle_to_fit_the_width():
    long = "a_very_long_name_of_a_file_that_ends_in_0412.dng"
    short = drawing.shortened(long, 120)
    assert "..." in short and short.endswith("12.dng")
    assert drawing.text(short).width <= 121 * drawing.SCALE
    assert drawing.shortened("é中\n.dng", 200) == "???.dng"
