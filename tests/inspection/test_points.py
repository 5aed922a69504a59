"""Points of interest: on the sensor, inside the picture, picked in any picture."""

from __future__ import annotations

import numpy as np
import pytest
from command_line import kpn
from inspected_bursts import options, write_burst
from pictures import ORIENTATIONS

from kpn_cli.image import orientation
from kpn_cli.inspection import inspect
from kpn_cli.synthesis.protocol import noise_of_gain


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_a_pixel_of_the_upright_picture_is_mapped_to_the_sensor_and_back(turn):
    rows, columns = 5, 7
    index = np.arange(rows * columns).reshape(rows, columns)
    upright = orientation.upright(index, turn)
    for y, x in np.ndindex(upright.shape):
        point = orientation.sensor_position(x, y, (rows, columns), turn)
        assert index[point] == upright[y, x]
        assert orientation.upright_position(*point, (rows, columns), turn) == (x, y)


@pytest.mark.parametrize("at", ["120,5", "5,96", "-1,5", "5,-1"])
def test_a_point_outside_the_picture_is_refused_with_the_picture_s_size(
    tmp_path, small, weights, at
):
    result = kpn("inspect", *small, "-o", tmp_path / "o", "--weights", weights, "--at", at)
    assert result.exit_code == 1
    assert "120 x 96" in result.stderr and at in result.stderr
    assert not list((tmp_path / "o").iterdir())


def test_points_are_picked_even_in_a_black_picture(tmp_path, weights):
    paths = write_burst(tmp_path / "burst", np.zeros((1, 4, 20, 20)), noise_of_gain(1))
    found = inspect.inspect(paths, options(tmp_path, weights))
    assert all(0 <= point.x < 40 and 0 <= point.y < 40 for point in found.views)
    assert found.views
