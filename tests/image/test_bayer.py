"""Mosaic <-> planes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.errors import KpnError
from kpn_cli.image.bayer import PHASES, RED_OFFSET, pack, plane_order, unpack

phases = st.sampled_from(PHASES)
sides = st.integers(2, 9)
dtypes = st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64])

#: Colours of the planes in their order.
COLOURS = "RGGB"


def numbered(height, width, dtype=np.int32):
    """A mosaic in which every pixel has its own value (as far as the type goes)."""
    return np.arange(height * width).reshape(height, width).astype(dtype)


@given(phases, sides, sides, dtypes)
def test_unpacking_undoes_packing(phase, height, width, dtype):
    mosaic = numbered(height, width, dtype)
    again = unpack(pack(mosaic, phase), phase, height, width)
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, mosaic)


@given(phases, sides, sides)
def test_packing_undoes_unpacking_for_planes_of_a_mosaic(phase, height, width):
    planes = pack(numbered(height, width), phase)
    np.testing.assert_array_equal(pack(unpack(planes, phase, height, width), phase), planes)


@given(phases, sides, sides)
def test_packing_takes_every_sample_from_its_pixel_mirrored_at_the_border(phase, height, width):
    mosaic = numbered(height, width)
    top, left = RED_OFFSET[phase]

    def mirrored(index, size):
        index = abs(index)
        return 2 * (size - 1) - index if index >= size else index

    planes = pack(mosaic, phase)
    assert planes.shape == (4, (height + top + 1) // 2, (width + left + 1) // 2)
    for plane, row, column in np.ndindex(*planes.shape):
        y = mirrored(2 * row + plane // 2 - top, height)
        x = mirrored(2 * column + plane % 2 - left, width)
        assert planes[plane, row, column] == mosaic[y, x]


@given(phases, sides, sides)
def test_mirroring_never_mixes_colours(phase, height, width):
    order = np.array(plane_order(phase)).reshape(2, 2)
    mosaic = np.tile(order, (5, 5))[:height, :width]
    for plane, samples in enumerate(pack(mosaic, phase)):
        assert (samples == plane).all()


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_is_named_by_the_colours_of_the_first_four_pixels(phase):
    assert "".join(COLOURS[plane] for plane in plane_order(phase)) == phase


@pytest.mark.parametrize("phase", PHASES)
def test_the_first_green_is_that_of_the_red_rows(phase):
    rows = (plane_order(phase)[:2], plane_order(phase)[2:])
    assert sorted(map(sorted, rows)) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("phase", PHASES)
def test_plane_order_says_where_unpacking_puts_the_planes(phase):
    planes = np.broadcast_to(np.arange(4)[:, None, None], (4, 2, 2))
    assert tuple(unpack(planes, phase, 2, 2).flat) == plane_order(phase)


def test_packing_copies():
    mosaic = numbered(4, 4)
    pack(mosaic, "RGGB")[:] = -1
    np.testing.assert_array_equal(mosaic, numbered(4, 4))


@pytest.mark.parametrize("function", [lambda phase: pack(numbered(4, 4), phase), plane_order])
@pytest.mark.parametrize("phase", ["rggb", "RGBG", "", "XTRANS"])
def test_an_unknown_phase_is_refused_with_the_known_ones(function, phase):
    with pytest.raises(KpnError, match="RGGB, GRBG, GBRG, BGGR") as caught:
        function(phase)
    assert repr(phase) in str(caught.value)


@pytest.mark.parametrize(("height", "width"), [(1, 8), (8, 1), (0, 0)])
def test_a_mosaic_smaller_than_a_cell_is_refused_with_its_size(height, width):
    with pytest.raises(KpnError, match=f"{width}x{height}"):
        pack(numbered(height, width), "RGGB")
