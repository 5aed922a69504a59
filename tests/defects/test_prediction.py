"""A sample is predicted from its neighbours of all colours."""

from __future__ import annotations

import numpy as np
import pytest
from defective_bursts import surface
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.defects.prediction import REACH, Prediction, window_index
from kpn_cli.image import bayer


@given(st.integers(0, 3), st.integers(0, 5), st.integers(0, 8), st.sampled_from([(6, 9), (20, 9)]))
def test_windows_are_those_of_the_mosaic_and_keep_colours_at_its_borders(plane, row, column, size):
    height, width = size
    mosaic = np.arange(4 * height * width).reshape(2 * height, 2 * width)
    planes = bayer.pack(mosaic, "RGGB")
    window = planes[window_index(np.array([[plane], [row], [column]]), size)][0]
    y, x = 2 * row + plane // 2, 2 * column + plane % 2
    for down in range(-REACH, REACH + 1):
        for right in range(-REACH, REACH + 1):
            # Step by step, turning back at the borders.
            at = [y, x]
            for axis, (steps, side) in enumerate(((down, 2 * height), (right, 2 * width))):
                direction = np.sign(steps)
                for _ in range(abs(steps)):
                    if not 0 <= at[axis] + direction < side:
                        direction = -direction
                    at[axis] += direction
            assert window[down + REACH, right + REACH] == mosaic[tuple(at)]


def windows_of(planes: np.ndarray, sites: np.ndarray) -> np.ndarray:
    return planes[window_index(sites, planes.shape[1:])]


def test_the_sample_itself_is_not_used(rng):
    windows = rng.uniform(0, 1, (5, 17, 17)).astype(np.float32)
    one = Prediction(windows.copy(), np.full(5, 1e-6, np.float32)).values
    windows[:, REACH, REACH] = 99
    np.testing.assert_array_equal(Prediction(windows, np.full(5, 1e-6, np.float32)).values, one)


def test_a_slope_is_predicted_as_it_is():
    y, x = np.mgrid[:40, :50]
    planes = bayer.pack((0.1 + 0.003 * x + 0.002 * y).astype(np.float32), "RGGB")
    sites = np.array([[0, 1, 2, 3], [9, 10, 8, 7], [11, 12, 10, 9]])
    found = Prediction(windows_of(planes, sites), np.full(4, 1e-9, np.float32))
    np.testing.assert_allclose(found.values, planes[tuple(sites)], atol=1e-4)
    assert found.scatter.max() < 1e-4


def test_it_errs_less_than_the_mean_of_the_neighbours(rng):
    planes = surface(1)[0]
    sites = np.stack([rng.integers(0, 4, 2000), *rng.integers(6, 150, (2, 2000))])
    windows = windows_of(planes, sites)
    found = Prediction(windows, np.full(2000, 1e-6, np.float32)).values
    mean = np.mean(
        [windows[:, REACH + y, REACH + x] for y, x in ((0, 2), (0, -2), (2, 0), (-2, 0))], 0
    )
    truth = planes[tuple(sites)]
    assert np.square(found - truth).mean() < 0.25 * np.square(mean - truth).mean()


def test_neighbours_that_are_defects_do_not_teach():
    planes = np.full((4, 20, 20), 0.2, np.float32)
    bad = np.zeros(planes.shape, bool)
    bad[0, 9:12, 9:12] = True
    planes[bad] = 0.9
    planes[0, 10, 10] = 0.2
    index = window_index(np.array([[0], [10], [10]]), (20, 20))
    with_them = Prediction(planes[index], np.float32([1e-6])).values
    without = Prediction(planes[index], np.float32([1e-6]), usable=~bad[index]).values
    assert abs(without[0] - 0.2) < abs(with_them[0] - 0.2)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_flat_field_is_no_division_by_zero(value):
    windows = np.full((3, 17, 17), value, np.float32)
    found = Prediction(windows, np.zeros(3, np.float32))
    np.testing.assert_allclose(found.values, value, atol=1e-6)
