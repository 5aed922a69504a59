"""Exposure, time and noise profile are read from the tags."""

from __future__ import annotations

from datetime import datetime

import pytest
from dng_factory import write_dng
from dng_mosaics import noise_mosaic

from kpn_cli.raw.reader import read_info

SHOT, READ = (1e-4, 2e-4, 3e-4, 4e-4), (1e-7, 2e-7, 3e-7, 4e-7)


def test_exif_is_read_from_its_own_directory(tmp_path):
    exif = {
        33434: (5, (1 / 60,)), 33437: (5, (2.8,)), 34855: (3, (800,)), 37386: (5, (35.0,)),
        36867: (2, "2024:05:06 07:08:09"), 37521: (2, "25"),
    }  # fmt: skip
    extra = [(271, 2, 0, "Maker", True), (272, 2, 0, "Camera 1", True), (274, 3, 1, 8, True)]
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), exif=exif, extra=extra))
    assert (info.make, info.model, info.orientation) == ("Maker", "Camera 1", 8)
    assert (info.iso, info.f_number, info.focal_length) == (800, 2.8, 35)
    assert info.exposure_time == pytest.approx(1 / 60)
    assert info.captured == datetime(2024, 5, 6, 7, 8, 9, 250_000)


def test_exif_is_read_from_ifd_0_where_there_is_no_exif_directory(tmp_path):
    extra = [(33434, 5, 1, (1, 50), True), (34855, 3, 1, 400, True),
             (306, 2, 0, "2024:05:06 07:08:09", True)]  # fmt: skip
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), extra=extra))
    assert (info.exposure_time, info.iso) == (0.02, 400)
    assert info.captured == datetime(2024, 5, 6, 7, 8, 9)


def test_zeros_mean_unknown(tmp_path):
    exif = {33434: (5, (0,)), 33437: (5, (0,)), 34855: (3, (0,)), 36867: (2, "0000:00:00 00:00:00")}
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), exif=exif))
    assert (info.exposure_time, info.f_number, info.iso, info.captured) == (None,) * 4


def test_an_iso_too_large_for_its_tag_is_found_in_the_next(tmp_path):
    exif = {34855: (3, (65535,)), 34866: (4, (102400,))}
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), exif=exif))
    assert info.iso == 102400


@pytest.mark.parametrize(
    ("exif", "iso", "source"),
    [
        ({34855: (3, (800,)), 34864: (3, (2,)), 34866: (4, (900,))}, 800,
         "PhotographicSensitivity"),
        ({34855: (3, (65535,)), 34865: (4, (204800,)), 34866: (4, (102400,))}, 102400,
         "RecommendedExposureIndex"),
        # SensitivityType says which of them the ISO is.
        ({34855: (3, (65535,)), 34864: (3, (1,)), 34865: (4, (204800,)), 34866: (4, (102400,))},
         204800, "StandardOutputSensitivity"),
        ({34864: (3, (1,)), 34865: (4, (640,)), 34867: (4, (500,))}, 640,
         "StandardOutputSensitivity"),
        ({34864: (3, (99,)), 34867: (4, (500,))}, 500, "ISOSpeed"),
        ({34855: (3, (0,)), 34866: (4, (65535,))}, 65535, "RecommendedExposureIndex"),
        ({}, None, ""),
    ],
)  # fmt: skip
def test_the_iso_says_which_tag_it_is_from(tmp_path, exif, iso, source):
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), exif={34850: (3, (1,)), **exif}))
    assert (info.iso, info.iso_source, info.notes) == (iso, source, ())


@pytest.mark.parametrize(
    ("exif", "iso", "word"),
    [
        ({34855: (2, "high")}, None, "holds no number"),
        ({34855: (4, (4294967295,))}, None, "4.29497e+09 is no ISO"),
        ({34855: (3, (65535,)), 34867: (4, (4294967295,))}, 65535, "ISOSpeed 4.29497e+09 is no"),
        ({34855: (3, (65535,)), 34867: (4, (200,))}, 65535, "says 65535 or more"),
        ({34855: (5, (0.25,)), 34866: (4, (200,))}, 200, "0.25 is no ISO"),
    ],
)
def test_an_absurd_iso_is_ignored_with_a_line(tmp_path, exif, iso, word):
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), exif=exif))
    assert info.iso == iso
    (line,) = info.notes
    assert word in line and "ignored" in line


@pytest.mark.parametrize(
    ("count", "planes"),
    [(1, (0, 0, 0, 0)), (3, (0, 1, 1, 2)), (4, (3, 2, 1, 0))],  # four: pixels of BGGR
)
def test_noise_profiles_are_spread_over_the_planes(tmp_path, count, planes):
    profile = [value for pair in zip(SHOT[:count], READ[:count], strict=True) for value in pair]
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), phase="BGGR", noise_profile=profile)
    model = read_info(path).noise_profile
    assert model.shot == tuple(SHOT[plane] for plane in planes)
    assert model.read == tuple(READ[plane] for plane in planes)


def test_a_negative_read_noise_of_a_noise_profile_is_taken_as_zero(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), noise_profile=(1e-4, -1e-8))
    assert read_info(path).noise_profile.read == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "profile", [(), (0, 0), (0, 1e-6), (float("nan"), 0), (2, 0), (1e-4, 0, 1e-4, 0)]
)
def test_an_invalid_noise_profile_is_none(tmp_path, profile):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), noise_profile=profile)
    assert read_info(path).noise_profile is None
