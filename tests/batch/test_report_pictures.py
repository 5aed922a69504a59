"""Pictures of the report: upright, alike in brightness, bounded."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import texture
from report_pages import NOISE, info_of, noisy, picture

from kpn_cli.batch import report, report_pictures
from kpn_cli.batch.report_pictures import Part
from kpn_cli.output.develop import develop, developed_size


@pytest.mark.parametrize("orientation", [1, 2, 3, 5, 6, 8])
@pytest.mark.parametrize("phase", ["RGGB", "GBRG", "GRBG"])
def test_parts_are_cut_from_the_upright_picture(orientation, phase, monkeypatch):
    monkeypatch.setattr(report_pictures, "_PART", (48, 80))
    info = info_of(150, 201, orientation=orientation, phase=phase)
    clean = 0.2 + 0.5 * texture(4, 77, 102)[None].repeat(4, 0)
    made = report_pictures.make(info, noisy(clean), clean, NOISE, 10**9)
    whole = develop(info, clean, linear=False) / 257
    assert made.size == developed_size(info) == whole.shape[:2]
    assert len(made.parts) >= 2
    for part in made.parts:
        assert part.box[2:] == (48, 80)
        assert abs(picture(part.after) - cut(whole, part)).mean() < 2
    rows, columns = made.overview_size
    assert picture(made.overview).shape[:2] == (rows, columns)
    assert rows / columns == pytest.approx(made.size[0] / made.size[1], rel=0.03)


def cut(whole: np.ndarray, part: Part) -> np.ndarray:
    top, left, rows, columns = part.box
    return whole[top : top + rows, left : left + columns]


def test_a_dark_burst_is_shown_brighter_before_and_after_alike():
    clean = np.full((4, 32, 48), 0.05, np.float32)
    made = report_pictures.make(info_of(64, 96), noisy(clean), clean, NOISE, 10**9)
    assert made.stops == pytest.approx(4, abs=0.34)
    part = made.parts[0]
    assert picture(part.after).mean() == pytest.approx(picture(part.before).mean(), rel=0.1)
    light = np.full((4, 32, 48), 0.5, np.float32)
    assert report_pictures.make(info_of(64, 96), noisy(light), light, NOISE, 10**9).stops == 0


def test_fewer_pictures_where_there_are_many_bursts():
    assert report.budget(1) == report.budget(50) > report.budget(200) > 0
    clean = 0.2 + 0.5 * texture(4, 300, 450)[None].repeat(4, 0)
    made = report_pictures.make(info_of(600, 900), noisy(clean), clean, NOISE, 1)
    assert len(made.parts) == 1
