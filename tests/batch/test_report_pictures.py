"""Pictures of the report are upright, equally bright and bounded in size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import texture
from report_pages import NOISE, burst_result, info_of, noisy, picture, small_pictures

from kpn_cli.batch import report, report_pictures
from kpn_cli.batch.report_pictures import BeforeAfter
from kpn_cli.output.develop import develop, developed_size
from kpn_cli.output.dng_levels import OUTPUT_BLACK, source_white_in_output
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.info import RawInfo


@pytest.mark.parametrize("orientation", [1, 2, 3, 5, 6, 8])
@pytest.mark.parametrize("phase", ["RGGB", "GBRG", "GRBG"])
def test_crops_are_cut_from_the_upright_picture(orientation, phase):
    info = info_of(150, 201, orientation=orientation, phase=phase)
    clean = 0.2 + 0.5 * texture(4, 77, 102)[None].repeat(4, 0)
    made = report_pictures.make_pictures(
        info, noisy(clean), clean, NOISE, 10**9, crop_size=(48, 80)
    )
    whole = develop(info, clean, linear=False) / 257
    assert made.size == developed_size(info) == whole.shape[:2]
    assert len(made.crops) >= 2
    for crop in made.crops:
        assert crop.box[2:] == (48, 80)
        assert abs(picture(crop.after) - cut(whole, crop)).mean() < 2
    rows, columns = made.overview_size
    assert picture(made.overview).shape[:2] == (rows, columns)
    assert rows / columns == pytest.approx(made.size[0] / made.size[1], rel=0.03)


def cut(whole: np.ndarray, crop: BeforeAfter) -> np.ndarray:
    top, left, rows, columns = crop.box
    return whole[top : top + rows, left : left + columns]


def test_a_dark_burst_is_shown_brighter_before_and_after_alike():
    clean = np.full((4, 32, 48), 0.05, np.float32)
    made = report_pictures.make_pictures(info_of(64, 96), noisy(clean), clean, NOISE, 10**9)
    assert made.stops == pytest.approx(4, abs=0.34)
    crop = made.crops[0]
    assert picture(crop.after).mean() == pytest.approx(picture(crop.before).mean(), rel=0.1)
    light = np.full((4, 32, 48), 0.5, np.float32)
    assert (
        report_pictures.make_pictures(info_of(64, 96), noisy(light), light, NOISE, 10**9).stops == 0
    )


def test_pictures_from_files_need_files_of_one_size(tmp_path):
    burst = burst_result(tmp_path, 1, skipped=True)
    infos = {burst.reference: info_of(64, 96), burst.outputs["dng"]: info_of(64, 98)}

    def read(path: Path) -> tuple[RawInfo, np.ndarray]:
        info = infos[path]
        return info, np.zeros((4, info.height // 2, info.width // 2), np.float32)

    options = Options(tmp_path, report=True)
    for shown, size in (("has another size", (64, 98)), ("Whole picture", (64, 96))):
        infos[burst.outputs["dng"]] = info_of(*size, path=burst.outputs["dng"])
        with report.collect_sections(options, 1) as sections:
            sections.add_finished(burst, read)
            (section,) = sections.collected.sections.values()
            assert shown in section.path.read_text("utf-8")


def test_pictures_from_files_have_the_white_of_the_source(tmp_path, monkeypatch):
    """The white of a DNG from a raw file that clips above its white is where it clips."""
    burst = burst_result(tmp_path, 1, skipped=True)
    raw = info_of(64, 96, white=1000.0, saturation=1500.0)
    white = source_white_in_output(raw)
    dng = info_of(64, 96, black=(OUTPUT_BLACK,) * 4, white=65535.0, path=burst.outputs["dng"])
    assert OUTPUT_BLACK < white < 0.7 * dng.white
    seen = []

    def look(info, reference, clean, *_):
        seen.append(clean)
        return small_pictures()

    monkeypatch.setattr(report_pictures, "make_pictures", look)
    with report.collect_sections(Options(tmp_path, report=True), 1) as sections:
        files = {burst.reference: (raw, 1000.0), burst.outputs["dng"]: (dng, white)}
        sections.add_finished(
            burst, lambda path: (files[path][0], np.full((4, 32, 48), files[path][1], np.float32))
        )
    assert seen[0] == pytest.approx(1.0)


def test_many_bursts_get_fewer_pictures_each():
    assert report.picture_budget(1) == report.picture_budget(50) > report.picture_budget(200) > 0
    clean = 0.2 + 0.5 * texture(4, 300, 450)[None].repeat(4, 0)
    made = report_pictures.make_pictures(info_of(600, 900), noisy(clean), clean, NOISE, 1)
    assert len(made.crops) == 1


def test_pure_noise_has_pictures_too():
    """It compresses so badly that an encoder with a buffer of a guessed size fails."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    assert report_pictures._jpeg(noise, 95).startswith(b"\xff\xd8")
