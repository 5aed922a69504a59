"""TIFF and JPEG say of the photo what the raw file said, and nothing that is true no more."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime, timezone

import exifread
import numpy as np
import pytest
import tifffile
from dng_factory import write_dng
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from raw_files import nef, rich_dng, scene

from kpn_cli.output.develop import develop, to_srgb, to_srgb8
from kpn_cli.output.icc import rgb_profile
from kpn_cli.output.tiff_jpeg import photo_tags, tiff_writer, write_jpeg
from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.tiff import fields
from kpn_cli.tiff.reader import read_tree

NOW = datetime(2025, 6, 7, 8, 9, 10, tzinfo=timezone.utc)
FORMATS = ["linear.tif", "srgb.tif", "photo.jpg"]


def written(folder, source, name):
    """Develop a frame, write it under a name that says how, and return it."""
    info = read_info(source)
    linear = name == "linear.tif"
    rgb = develop(info, read_planes(info), linear=linear)
    tree = read_tree(source)
    tags = photo_tags(
        info, tree, rgb.shape[:2], linear=linear, jpeg=name.endswith("jpg"), modified=NOW
    )
    if name.endswith("jpg"):
        write_jpeg(folder / name, to_srgb8(develop(info, read_planes(info), linear=True)), tags)
    else:
        with tiff_writer(folder / name, rgb.shape[:2], linear=linear, tags=tags) as add:
            add(rgb)
    return rgb


def exif_of(path):
    with path.open("rb") as file:
        return {name: str(value) for name, value in exifread.process_file(file).items()}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("source", ["a.dng", "a.nef"])
def test_exposure_lens_time_place_and_camera_are_there(tmp_path, name, source):
    if source == "a.dng":
        rich_dng(tmp_path / source, scene(160, 264), ">")
    else:
        nef(tmp_path / source, scene(160, 264))
    rgb = written(tmp_path, tmp_path / source, name)
    exif = exif_of(tmp_path / name)
    assert exif["EXIF ExposureTime"] == "1/125"
    assert exif["EXIF FNumber"] == "14/5"
    assert exif["EXIF ISOSpeedRatings"] == "3200"
    assert exif["EXIF LensModel"] == "Lens 50mm f/1.8"
    assert exif["EXIF DateTimeOriginal"] == "2024:01:02 03:04:05"
    assert exif["Image DateTime"] == "2025:06:07 08:09:10"
    assert exif["Image Artist"] == "An artist"
    assert exif["GPS GPSLatitude"] == "[48, 51, 59/2]"
    assert exif["Image Model"] == {"a.dng": "Model 1", "a.nef": "NIKON D750"}[source]
    # Of the picture as it lies, not of the raw file.
    assert exif["Image Orientation"] == "Horizontal (normal)"
    assert exif["EXIF ColorSpace"] == ("Uncalibrated" if name == "linear.tif" else "sRGB")
    if name == "photo.jpg":
        size = int(exif["EXIF ExifImageLength"]), int(exif["EXIF ExifImageWidth"])
        assert size == rgb.shape[:2]
    assert not any("MakerNote" in key or "Interop" in key for key in exif)


@pytest.mark.parametrize("name", FORMATS)
def test_date_time_becomes_the_time_of_the_exposure_if_there_is_no_other(tmp_path, name):
    source = write_dng(
        tmp_path / "a.dng", scene(64, 80), white=16383, extra=[(306, 2, 0, "2024:01:02 03:04:05")],
        exif={36867: (2, "0000:00:00 00:00:00"), 36880: (2, "+09:00")},
    )  # fmt: skip
    written(tmp_path, source, name)
    exif = exif_of(tmp_path / name)
    assert exif["EXIF DateTimeOriginal"] == "2024:01:02 03:04:05"
    assert exif["EXIF OffsetTimeOriginal"] == "+09:00"
    assert exif["Image DateTime"] == "2025:06:07 08:09:10"


def test_lens_info_of_a_dng_becomes_exifs_lens_specification(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 264))
    written(tmp_path, tmp_path / "a.dng", "photo.jpg")
    assert exif_of(tmp_path / "photo.jpg")["EXIF LensSpecification"] == "[50, 50, 9/5, 9/5]"


@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_a_tiff_holds_its_pixels(tmp_path_factory, rgb):
    path = tmp_path_factory.getbasetemp() / "pixels.tif"
    with tiff_writer(path, rgb.shape[:2], linear=True) as add:
        add(rgb)
    np.testing.assert_array_equal(tifffile.imread(path), rgb)


def test_a_tiff_of_many_strips_holds_its_pixels(tmp_path, rng):
    rgb = rng.integers(0, 65536, (700, 333, 3), dtype=np.uint16)
    with tiff_writer(tmp_path / "a.tif", rgb.shape[:2], linear=False) as add:
        add(rgb)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), rgb)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages[0].dataoffsets) > 3


def test_a_jpeg_keeps_short_tags_where_long_ones_do_not_fit(tmp_path, rng):
    rgb = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = [fields.integer_field(34855, 800), fields.undefined_field(37510, bytes(70_000))]
    write_jpeg(
        tmp_path / "a.jpg", rgb, [fields.ascii_field(315, "me"), fields.ifd_field(34665, exif)]
    )
    found = exif_of(tmp_path / "a.jpg")
    assert found["Image Artist"] == "me"
    assert found["EXIF ISOSpeedRatings"] == "800"
    assert Image.open(tmp_path / "a.jpg").size == (30, 20)


def test_a_jpeg_looks_like_the_tiff(tmp_path):
    nef(tmp_path / "a.nef", scene(160, 264))
    info = read_info(tmp_path / "a.nef")
    linear = develop(info, read_planes(info), linear=True)
    rgb = to_srgb(linear)
    write_jpeg(tmp_path / "a.jpg", to_srgb8(linear))
    shown = np.asarray(Image.open(tmp_path / "a.jpg")).astype(float)
    assert np.abs(shown.mean((0, 1)) - rgb.mean((0, 1)) / 257).max() < 1


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")
@pytest.mark.parametrize("name", FORMATS)
def test_exiftool_finds_nothing_to_warn_about(tmp_path, name):
    nef(tmp_path / "a.nef", scene(160, 264))
    written(tmp_path, tmp_path / "a.nef", name)
    done = subprocess.run(
        ["exiftool", "-validate", "-warning", "-error", "-a", "-s3", tmp_path / name],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # Exif's own TIFFs have no Deflate; our source's GPS has no more than a latitude.
    known = ("Compression", "GPSProcessingMethod", "Warning")
    assert not [line for line in done.stdout.splitlines()
                if line != "OK" and not any(word in line for word in known)]  # fmt: skip


@pytest.mark.parametrize("linear", [True, False])
def test_tiffs_hold_pixels_and_profile_and_no_time(tmp_path, linear):
    rgb = np.random.default_rng(0).integers(0, 65536, (33, 41, 3), dtype=np.uint16)
    for name in ("a.tif", "b.tif"):
        with tiff_writer(tmp_path / name, rgb.shape[:2], linear=linear) as add:
            add(rgb)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), rgb)
        assert page.tags["InterColorProfile"].value == rgb_profile(linear=linear)
        assert page.tags["Software"].value.startswith("kpn ")
        assert "DateTime" not in page.tags
        assert "ImageDescription" not in page.tags
