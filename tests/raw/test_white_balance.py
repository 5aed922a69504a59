"""Pictures are balanced as shot, for daylight, or by their average colour; a line says which."""

from __future__ import annotations

import numpy as np
import pytest
from dng_factory import write_dng

from kpn_cli.raw.reader import read_info
from kpn_cli.raw.white_balance import estimated

BLACK, WHITE = 64, 4000
GAINS = (2.0, 1.0, 1.5)


def mosaic(scale: float = 1.0, side: int = 128) -> np.ndarray:
    """Grey surfaces with a coloured one, in light that needs GAINS; RGGB, DN."""
    rng = np.random.default_rng(0)
    grey = np.kron(rng.uniform(0.02, 0.8, (side // 16, side // 16)), np.ones((16, 16)))
    colours = np.empty((side, side))
    for plane, gain in enumerate((GAINS[0], 1, 1, GAINS[2])):
        colours[plane // 2 :: 2, plane % 2 :: 2] = grey[plane // 2 :: 2, plane % 2 :: 2] / gain
    colours[:16, :32:2] *= 0.5  # a surface of another colour
    noisy = scale * colours * (WHITE - BLACK) + BLACK + rng.normal(0, 5, colours.shape)
    return np.rint(noisy.clip(0, WHITE)).astype(np.uint16)


def info_of(path, **options):
    return read_info(write_dng(path / "a.dng", mosaic(), black=(BLACK,), white=WHITE, **options))


def test_without_balance_and_matrix_the_average_colour_becomes_grey(tmp_path):
    info = info_of(tmp_path, color_matrix=(), neutral=())
    assert info.white_balance == pytest.approx(GAINS, rel=0.05)
    assert info.balance_is_estimated
    balance, matrix = info.notes
    assert "no usable white balance" in balance and "average colour" in balance
    assert "no colour matrix" in matrix


def test_without_balance_a_known_camera_is_balanced_for_daylight(tmp_path):
    info = info_of(tmp_path, neutral=())
    assert not info.balance_is_estimated
    assert len(info.notes) == 1 and "for daylight" in info.notes[0]


def test_as_shot_white_xy_is_a_white_balance(tmp_path):
    xy = [(50729, 5, 2, (3457, 10000, 3585, 10000), True)]
    info = info_of(tmp_path, neutral=(), extra=xy)
    # D50 in the camera's colours, which are sRGB's.
    assert info.white_balance == pytest.approx((0.83, 1, 1.35), abs=0.01)
    assert info.notes == ()


def test_a_balance_without_a_matrix_is_used_as_shot(tmp_path):
    info = info_of(tmp_path, color_matrix=())
    assert info.white_balance == pytest.approx((2, 1, 1.25))
    assert len(info.notes) == 1 and "no colour matrix" in info.notes[0]


def test_clipped_and_hot_samples_do_not_count():
    clipped = mosaic()
    clipped[64:] = WHITE
    clipped[3::20, 3::20] = WHITE
    gains, _ = estimated(clipped, "RGGB", (BLACK,) * 4, WHITE)
    assert gains == pytest.approx(GAINS, rel=0.1)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 100.0])
def test_a_picture_too_dark_or_too_bright_is_not_balanced_and_a_line_says_so(scale):
    gains, note = estimated(mosaic(scale), "RGGB", (BLACK,) * 4, WHITE)
    assert gains == (1, 1, 1)
    assert "too dark or too bright" in note


def test_no_gain_is_beyond_any_light():
    red = mosaic()
    red[1::2, 1::2] = BLACK + 50
    gains, _ = estimated(red, "RGGB", (BLACK,) * 4, WHITE)
    assert gains[2] <= 4
