"""Points of the upright picture are found on the sensor."""

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
def test_places_of_the_upright_picture_are_found_on_the_sensor(turn):
    rows, columns = 5, 7
    index = np.arange(rows * columns).reshape(rows, columns)
    upright = orientation.upright(index, turn)
    for y, x in np.ndindex(upright.shape):
        place = orientation.sensor_position(x, y, (rows, columns), turn)
        assert index[place] == upright[y, x]
        assert orientation.upright_position(*place, (rows, columns), turn) == (x, y)


@pytest.mark.parametrize("at", ["120,5", "5,96", "-1,5", "5,-1"])
def test_a_place_outside_of_the_picture_is_refused_with_its_size(tmp_path, small, weights, at):
    result = kpn("inspect", *small, "-o", tmp_path / "o", "--weights", weights, "--at", at)
    assert result.exit_code == 1
    assert "120 x 96" in result.stderr and at in result.stderr
    assert not list((tmp_path / "o").iterdir())


def test_places_are_picked_even_in_a_black_picture(tmp_path, weights):
    paths = write_burst(tmp_path / "burst", np.zeros((1, 4, 20, 20)), noise_of_gain(1))
    found = inspect.inspect(paths, options(tmp_path, weights))
    assert all(0 <= place.x < 40 and 0 <= place.y < 40 for place in found.looks)
    assert found.looks
