"""The report shows crops of different kinds, all within the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import texture
from report_pages import NOISE, noisy

from kpn_cli.batch import report_crops


def test_crops_show_detail_shadows_smooth_tones_and_an_unchanged_part():
    cells, size = (96, 256), (128, 128)  # four parts side by side, and something below
    quarter = slice(0, 64)
    clean = np.full((4, *cells), 0.3, np.float32)
    clean[:, quarter, 0:64] = 0.3 + 0.5 * (texture(1, 64, 64) - 0.5)
    clean[:, quarter, 64:128] = 0.01 + 0.02 * texture(2, 64, 64)
    clean[:, quarter, 192:] = 0.3 + 0.1 * (texture(3, 64, 64) - 0.5)
    clean[:, 64:] = 1.0  # clipped: as detailed as can be, and nothing to see
    clean[:, 64::2] = 0.98
    reference = noisy(clean)
    reference.samples[:, quarter, 192:] = torch.from_numpy(clean[:, quarter, 192:])
    crops = report_crops.choose_crops(reference, clean, NOISE, (192, 512), size)
    wanted = {
        "Most detail": 0,
        "Shadows": 128,
        "Smooth tones": 256,
        "Closest to the reference": 384,
    }
    assert [crop.name for crop in crops] == list(wanted)
    for crop in crops:
        assert crop.box[0] == 0
        assert abs(crop.box[1] - wanted[crop.name]) <= 32  # a quarter of it


def test_a_picture_no_larger_than_a_crop_is_shown_whole():
    clean = np.full((4, 30, 41), 0.3, np.float32)
    crops = report_crops.choose_crops(noisy(clean), clean, NOISE, (59, 81), (512, 768))
    assert [(crop.name, crop.box) for crop in crops] == [("Whole picture", (0, 0, 59, 81))]


@pytest.mark.parametrize(("height", "width"), [(513, 769), (20, 2000), (2000, 20), (530, 530)])
def test_crops_are_within_the_picture_and_begin_at_even_pixels(height, width):
    clean = texture(1, height // 2 + 1, width // 2 + 1)[None].repeat(4, 0)
    for crop in report_crops.choose_crops(noisy(clean), clean, NOISE, (height, width), (512, 768)):
        top, left, rows, columns = crop.box
        assert top % 2 == left % 2 == 0
        assert 0 <= top <= height - rows and 0 <= left <= width - columns
        assert (rows, columns) == (min(512, height), min(768, width))
