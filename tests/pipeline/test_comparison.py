"""A part of a burst at several strengths: the same pictures as from whole runs."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from cards import digests, write_frame
from PIL import Image

from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.pipeline import comparison
from kpn_cli.pipeline import denoise as pipeline
from kpn_cli.pipeline.comparison import Comparison, Part, compare
from kpn_cli.pipeline.denoise import Engine, denoise
from kpn_cli.pipeline.options import Options

#: Wider than its labels.
PART = Part(33, 21, 170, 30)
SIZE = (150, 250)


@pytest.fixture
def card(tmp_path):
    for n in range(3):
        write_frame(tmp_path / "in" / f"IMG_{n}.dng", 0.1 * n, n, SIZE)
    return sorted((tmp_path / "in").iterdir())


@pytest.fixture
def options(tmp_path, weights):
    noise = NoiseModel.uniform(1e-6, 1e-6)
    return Options(tmp_path / "out", weights=weights, noise=noise, reference="first")


def panels(path, rows=1):
    """The pictures of a comparison, row by row, and their labels' share of ink."""
    whole = np.asarray(Image.open(path).convert("RGB"))
    height = (whole.shape[0] - 8) // rows
    columns = (whole.shape[1] - 8) // (PART.width + 8)
    return [
        [
            whole[8 + row * height + 24 :, 8 + column * (PART.width + 8) :][
                : PART.height, : PART.width
            ]
            for column in range(columns)
        ]
        for row in range(rows)
    ]


def test_the_pictures_are_parts_of_those_of_whole_runs_in_any_orientation(tmp_path, options):
    for n in range(2):
        write_frame(tmp_path / "in" / f"IMG_{n}.dng", 0.1 * n, n, SIZE[::-1], orientation=6)
    files = sorted((tmp_path / "in").iterdir())
    before = digests(tmp_path / "in")
    done = compare(files, options, Comparison(PART, (0.0, 1.0, 2.0), (0.0, 0.5)))
    path = done.outputs["crop"]
    assert path == tmp_path / "out" / "IMG_0_kpn_crop_33_21_170x30.png"
    assert digests(tmp_path / "in") == before
    assert [path] == list(path.parent.iterdir())
    first, second = panels(path, rows=2)
    assert len(first) == len(second) == 4
    assert np.array_equal(first[0], first[1])  # the reference, and strength 0
    for strength, grain, shown in ((0.0, 0.0, first[0]), (2.0, 0.5, second[3])):
        whole = replace(options, strength=strength, grain=grain, formats=("srgb",), overwrite=True)
        picture = cv2.imread(str(denoise(files, whole).outputs["srgb"]), cv2.IMREAD_UNCHANGED)
        x, y, width, height = PART
        expected = picture[y : y + height, x : x + width, ::-1] / 257
        difference = np.abs(shown - expected)
        # Demosaicing may decide otherwise at some pixels.
        assert np.mean(difference > 0.51) < 0.02
    assert not np.array_equal(first[2], second[2])


def test_a_finished_picture_is_kept_and_another_one_not_replaced(card, options):
    wanted = Comparison(PART, (1.0,))
    path = compare(card, options, wanted).outputs["crop"]
    content = path.read_bytes()
    assert compare(card, options, wanted).skipped
    of_usual_results = replace(options, compression="none", jpeg_quality=50, jpeg_size=100)
    assert compare(card, of_usual_results, replace(wanted, jpeg_quality=50)).skipped
    for other, changed in (
        (wanted, replace(options, defects="off")),
        (replace(wanted, strengths=(0.5,)), options),
    ):
        with pytest.raises(KpnError, match="already exists, made of other frames or with other"):
            compare(card, changed, other)
    assert path.read_bytes() == content
    assert not compare(card, replace(options, overwrite=True), wanted).skipped


def test_grain_knows_the_noise_of_all_frames_as_in_whole_runs(tmp_path, options, monkeypatch):
    more = Engine(options).config.frames + 1
    for n in range(more):
        write_frame(tmp_path / "in" / f"IMG_{n}.dng", 0.1 * n, n)
    files = sorted((tmp_path / "in").iterdir())
    observed = []
    for module in (pipeline, comparison):
        monkeypatch.setattr(
            module, "give_back_grain", lambda planes, frame, noise, *_: observed.append(noise)
        )
    assert len(compare(files, options, Comparison(Part(0, 0, 16, 16), grains=(0.5,))).frames) < more
    denoise(files, replace(options, grain=0.5, formats="jpeg"))
    assert observed[0].observed == observed[1].observed
    assert observed[0].observed is not None


def test_a_jpeg_has_its_quality_and_the_tags_of_the_reference(card, options):
    sizes = []
    for quality in (95, 40):
        wanted = Comparison(PART, (1.0,), jpeg=True, jpeg_quality=quality)
        path = compare(card, replace(options, overwrite=True), wanted).outputs["crop"]
        sizes.append(path.stat().st_size)
    assert sizes[1] < 0.7 * sizes[0]
    assert Image.open(path).getexif()[271] == "Canikon"


@pytest.mark.parametrize(
    "part", [(0, 0, 251, 20), (240, 0, 16, 16), (0, 140, 20, 20), (-1, 0, 20, 20)]
)
def test_a_part_outside_of_the_picture_is_refused_with_its_size(card, options, part):
    with pytest.raises(KpnError, match="not inside of the picture, which is 250 pixels wide"):
        compare(card, options, Comparison(Part(*part)))


def test_a_part_too_small_or_too_large_to_be_shown_is_refused(card, options, monkeypatch):
    with pytest.raises(KpnError, match="too few; give 16x16"):
        compare(card, options, Comparison(Part(0, 0, 250, 15)))
    monkeypatch.setattr(comparison, "_MAX_PIXELS", 10_000)
    with pytest.raises(KpnError, match="choose a smaller part"):
        compare(card, options, Comparison(PART))
    assert not options.output.exists()


def test_only_the_part_and_a_halo_are_merged(card, options, monkeypatch):
    monkeypatch.setattr("kpn_cli.merge.merge._halo", lambda _: 8)
    merged = []
    real = comparison.TileMerger.merge

    def spied(self, rows, columns):
        merged.append((rows, columns))
        return real(self, rows, columns)

    monkeypatch.setattr(comparison.TileMerger, "merge", spied)
    compare(card, options, Comparison(Part(100, 60, 20, 20), (1.0,)))
    ((rows, columns),) = merged
    # 10 cells, 8 of the margin of demosaicing and 8 of the halo on each side, and the grid.
    assert rows.stop - rows.start <= 48
    assert columns.stop - columns.start <= 48
