"""PSNR and SSIM see what they should, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pictures import planes

from kpn_cli.evaluation.metrics import psnr, ssim, to_display
from kpn_cli.image.srgb import srgb_encode
from kpn_cli.synthesis.protocol import GAINS, WHITE_LEVELS, noise_of_gain


def flat(level, side=16):
    return np.full((4, side, side), level, np.float32)


@pytest.mark.parametrize("white", WHITE_LEVELS)
def test_psnr_is_taken_after_white_level_and_gamma(white):
    difference = float(srgb_encode(np.float64(0.3))) - float(srgb_encode(np.float64(0.2)))
    expected = -20 * math.log10(difference)
    assert psnr(flat(0.3 * white), flat(0.2 * white), white) == pytest.approx(expected, abs=1e-3)


def test_psnr_averages_squares_over_planes_and_samples():
    output, truth = flat(0.2), flat(0.2)
    output[1] = 0.3  # one plane of four
    difference = float(srgb_encode(np.float64(0.3))) - float(srgb_encode(np.float64(0.2)))
    expected = -10 * math.log10(difference**2 / 4)
    assert psnr(output, truth, 1.0) == pytest.approx(expected, abs=1e-3)


@pytest.mark.filterwarnings("error")
def test_identical_pictures_have_no_error_and_full_similarity():
    picture = planes(0, 24, 24)
    assert psnr(picture, picture, 1.0) == math.inf
    assert ssim(picture, picture, 1.0) == pytest.approx(1)


def test_a_border_of_eight_mosaic_pixels_is_ignored():
    truth, output = planes(0, 24, 24), planes(0, 24, 24)
    output[:, :4] = output[:, -4:] = 0
    output[..., :4] = output[..., -4:] = 0
    assert to_display(truth, 1.0).shape == (4, 16, 16)
    np.testing.assert_array_equal(to_display(output, 1.0), to_display(truth, 1.0))
    output[0, 4, 4] = 0
    assert math.isfinite(psnr(output, truth, 1.0))


def test_differences_above_white_and_below_black_are_ignored():
    for dark, darker in ((-0.5, -0.1), (0.6, 0.9)):
        np.testing.assert_array_equal(to_display(flat(dark), 0.5), to_display(flat(darker), 0.5))


def test_noise_lowers_both_figures(rng):
    truth = planes(0, 32, 32)
    noisy = [noise_of_gain(gain).sample(truth, rng) for gain in GAINS]
    for figure in (psnr, ssim):
        figures = [figure(output, truth, 1.0) for output in noisy]
        assert figures == sorted(figures, reverse=True)
