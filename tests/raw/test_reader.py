"""What `raw` reads is what the file says, and what it can't read it refuses in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile
from dng_factory import COLOR_MATRIX, write_dng

from kpn_cli.errors import KpnError
from kpn_cli.image import bayer
from kpn_cli.raw.reader import read_info, read_mosaic, read_planes

SHARED = Path(__file__).resolve().parents[3] / "shared" / "raw"

#: Readable files of the shared set; all others of these folders must be refused.
READABLE = {"canon-kiss-x4.dng", "blackmagic-pocket-linearization-table.dng"}

#: What the refusals of files that aren't Bayer must name.
NAMED = {
    "adobe-linear-float32.dng": "linear DNG",
    "adobe-linear-rgb16.dng": "linear DNG",
    "canon-6d-linear-lossy.dng": "linear DNG",
    "canon-g1-gmcy.crw": "GMCY",
    "kodak-dc50-é.kdc": "Kodak",
    "quicktake-100.qtk": "QuickTake",
}

#: Seconds for all shared files together; they take less than one.
TIME_LIMIT = 60


def noise_mosaic(height: int = 46, width: int = 68, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(100, 900, (height, width)).astype(np.uint16)


def overwrite(path: Path, tag: int, value) -> Path:
    """Change a tag that the factory has written."""
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags[tag].overwrite(value)
    return path


def refusal(path: Path) -> str:
    """The message with which a file is refused; one line that begins with its name."""
    with pytest.raises(KpnError) as caught:
        read_mosaic(read_info(path))
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path.name}: ") and message[-1] == "."
    return message


# --- pixels and levels ----------------------------------------------------------------


@pytest.mark.parametrize("phase", bayer.PHASES)
@pytest.mark.parametrize("size", [(46, 68), (45, 68), (46, 67), (45, 67)])
@pytest.mark.parametrize(
    "area", [None, (2, 4, 44, 62), (3, 4, 42, 61), (2, 5, 41, 62), (3, 5, 42, 62)]
)
def test_planes_are_the_active_area_less_its_black_pattern(tmp_path, phase, size, area):
    sensor = noise_mosaic(*size)
    top, left, bottom, right = area or (0, 0, *size)
    black = np.array([[10, 20.5], [30, 40.25]], np.float32)  # from the active area's origin
    path = write_dng(
        tmp_path / "a.dng", sensor, phase=phase, active_area=area,
        black=black.ravel(), black_repeat=(2, 2),
    )  # fmt: skip

    info = read_info(path)
    mosaic = read_mosaic(info)
    planes = read_planes(info)

    visible = sensor[top:bottom, left:right]
    assert info.phase == phase and info.origin == (top, left)
    assert (info.height, info.width) == visible.shape
    assert mosaic.dtype == np.uint16 and np.array_equal(mosaic, visible)
    tiled = np.tile(black, (32, 40))[: visible.shape[0], : visible.shape[1]]
    expected = bayer.pack((visible - tiled) / (1023 - tiled), phase)
    assert planes.dtype == np.float32 and np.array_equal(planes, expected)


def test_the_mosaic_is_a_copy_that_outlives_the_file(tmp_path):
    sensor = noise_mosaic()
    path = write_dng(tmp_path / "a.dng", sensor)
    mosaic = read_mosaic(read_info(path))
    path.unlink()
    mosaic += 0
    assert mosaic.base is None and np.array_equal(mosaic, sensor)


def test_values_below_black_and_above_white_are_kept(tmp_path):
    planes = read_planes(
        read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), black=(500,), white=600))
    )
    assert planes.min() < -1 and planes.max() > 1


@pytest.mark.parametrize(
    ("repeat", "levels", "expected"),
    [
        ((1, 1), (60.5,), (60.5, 60.5, 60.5, 60.5)),
        ((1, 2), (10, 20), (10, 20, 10, 20)),
        ((2, 1), (10, 20), (10, 10, 20, 20)),
        ((2, 2), (10, 20, 30, 40), (10, 20, 30, 40)),
        ((1, 4), (10, 20, 30, 40), (20, 30, 20, 30)),
        ((3, 1), (10, 20, 60), (30, 30, 30, 30)),
        ((4, 4), tuple(range(16)), (5, 6, 9, 10)),
    ],
)
def test_black_patterns_of_any_period_give_each_planes_mean(tmp_path, repeat, levels, expected):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), black=levels, black_repeat=repeat)
    assert read_info(path).black == pytest.approx(expected)


def test_black_deltas_of_rows_and_columns_are_added(tmp_path):
    rows = tuple(part for i in range(46) for part in (100 * (i % 2), 1))
    columns = tuple(part for i in range(68) for part in (8 * (i % 2), 1))
    extra = [(50715, 10, 68, columns, True), (50716, 10, 46, rows, True)]
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), black=(10,), extra=extra)
    assert read_info(path).black == (10, 18, 110, 118)


def test_a_linearization_table_is_applied(tmp_path):
    sensor = np.random.default_rng(0).integers(0, 256, (46, 68)).astype(np.uint16)
    table = (np.arange(256) * 16).astype(np.uint16)
    path = write_dng(tmp_path / "a.dng", sensor, linearization=table, white=4080)
    assert np.array_equal(read_mosaic(read_info(path)), table[sensor])


# --- what the tags say ----------------------------------------------------------------


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


def test_colour_comes_from_the_dng(tmp_path):
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), neutral=(0.5, 1, 0.8)))
    assert info.white_balance == pytest.approx((2, 1, 1.25))
    assert np.allclose(info.color_matrix, np.reshape(COLOR_MATRIX, (3, 3)), atol=1e-3)


def test_without_colour_there_is_no_matrix_and_white_balance_is_usable(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), color_matrix=(), neutral=())
    info = read_info(path)
    assert info.color_matrix is None
    assert info.white_balance[1] == 1 and min(info.white_balance) > 0


SHOT, READ = (1e-4, 2e-4, 3e-4, 4e-4), (1e-7, 2e-7, 3e-7, 4e-7)


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


def test_a_negative_offset_of_a_noise_profile_counts_as_none(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), noise_profile=(1e-4, -1e-8))
    assert read_info(path).noise_profile.read == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "profile", [(), (0, 0), (0, 1e-6), (float("nan"), 0), (2, 0), (1e-4, 0, 1e-4, 0)]
)
def test_a_void_noise_profile_is_none(tmp_path, profile):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), noise_profile=profile)
    assert read_info(path).noise_profile is None


# --- what is refused ------------------------------------------------------------------


def test_what_cannot_be_opened_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.dng")
    assert "folder" in refusal(tmp_path)
    (tmp_path / "empty.dng").touch()
    assert "empty" in refusal(tmp_path / "empty.dng")
    (tmp_path / "text.dng").write_text("not a photo " * 99)
    assert "LibRaw" in refusal(tmp_path / "text.dng")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.dng")
    assert "ordinary" in refusal(tmp_path / "pipe.dng")


def test_a_line_break_in_a_name_does_not_break_the_message(tmp_path):
    with pytest.raises(KpnError) as caught:
        read_info(tmp_path / "two\nlines.dng")
    assert "\n" not in str(caught.value)


def test_names_of_any_characters_are_read(tmp_path):
    names = ["é 雪.dng"]
    if sys.platform == "linux":
        names.append(os.fsdecode(b"not-utf8-\xe9.dng"))
    for name in names:
        assert read_info(write_dng(tmp_path / name, noise_mosaic())).phase == "RGGB"


def test_demosaiced_dngs_are_refused_as_such(tmp_path):
    colours = np.stack([noise_mosaic(seed=seed) for seed in range(3)], axis=-1)
    assert "linear DNG" in refusal(write_dng(tmp_path / "a.dng", colours, photometric=34892))


def test_monochrome_dngs_are_refused_as_such(tmp_path):
    path = overwrite(write_dng(tmp_path / "a.dng", noise_mosaic()), 262, 34892)
    assert "monochrome" in refusal(path)


def test_floating_point_dngs_are_refused_as_such(tmp_path):
    mosaic = noise_mosaic().astype(np.float32) / 1023
    assert "floating-point" in refusal(write_dng(tmp_path / "a.dng", mosaic, white=1))


XTRANS = "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"
QUAD = "RRGGRRGGGGBBGGBB"


@pytest.mark.parametrize("pattern", [(0, 1, 1, 16), (0, 1, 1, 4), (3, 4, 5, 0)])
def test_filters_of_no_colour_are_refused_where_libraw_takes_what_lies_in_memory(tmp_path, pattern):
    tags = [(50706, 1, 4, (1, 4, 0, 0), True), (33421, 3, 2, (2, 2), True),
            (33422, 1, 4, bytes(pattern), True)]  # fmt: skip
    path = tmp_path / "a.dng"
    tifffile.imwrite(path, noise_mosaic(), photometric=32803, metadata=None, extratags=tags)
    assert "none of its colours" in refusal(path)


@pytest.mark.parametrize(
    ("side", "colours", "named"),
    [(6, XTRANS, "X-Trans"), (4, QUAD, "RRGG"), (2, "CMYG", "GMCY")],
)
def test_other_colour_filters_are_refused_by_name(tmp_path, side, colours, named):
    pattern = bytes("RGBCMY".index(colour) for colour in colours)
    tags = [(50706, 1, 4, (1, 4, 0, 0), True), (33421, 3, 2, (side, side), True),
            (33422, 1, len(pattern), pattern, True)]  # fmt: skip
    path = tmp_path / "a.dng"
    tifffile.imwrite(path, noise_mosaic(), photometric=32803, metadata=None, extratags=tags)
    assert named in refusal(path)


def test_a_white_level_below_black_is_refused(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), black=(64,), white=50)
    assert "white level 50" in refusal(path)


def test_a_file_cut_short_is_refused(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic())
    path.write_bytes(path.read_bytes()[:-100])
    assert "ends too early" in refusal(path)


def test_huge_dimensions_in_a_small_file_are_refused_before_memory_is_taken(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic())
    for tag in (256, 257, 278):
        overwrite(path, tag, 30000)
    assert "30000x30000" in refusal(path)


@pytest.mark.parametrize("value", [0, 64, 512])
def test_a_blank_mosaic_is_refused(tmp_path, value):
    blank = np.full((46, 68), value, np.uint16)
    assert f"every pixel is {value}" in refusal(write_dng(tmp_path / "a.dng", blank))


def test_a_missing_end_is_refused_also_where_the_decoder_repeats_itself(tmp_path):
    sensor = noise_mosaic(100, 68)
    sensor[80:, 0::2], sensor[80:, 1::2] = 300, 500
    assert "last 20 of 100 rows" in refusal(write_dng(tmp_path / "a.dng", sensor))


def test_an_overexposed_end_is_a_picture(tmp_path):
    sensor = noise_mosaic(100, 68)
    sensor[20:] = 1023
    assert read_mosaic(read_info(write_dng(tmp_path / "a.dng", sensor))).max() == 1023


def test_a_dark_frame_with_little_noise_is_a_picture(tmp_path):
    rng = np.random.default_rng(0)
    # A sigma of 0.3 DN around black, and a camera that clips at black: mostly zeros.
    sensor = np.round(np.maximum(rng.normal(0, 0.3, (100, 400)), 0)).astype(np.uint16)
    assert (sensor == 0).mean() > 0.9
    assert read_mosaic(read_info(write_dng(tmp_path / "a.dng", sensor, black=(0,)))).max() > 0


def test_a_file_that_has_changed_since_is_refused(tmp_path):
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic()))
    write_dng(tmp_path / "a.dng", noise_mosaic(30, 30))
    with pytest.raises(KpnError, match="changed"):
        read_mosaic(info)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_header_raises_nothing_but_kpn_errors(tmp_path, seed):
    path = write_dng(
        tmp_path / "a.dng", noise_mosaic(), active_area=(2, 2, 44, 66), noise_profile=(1e-4, 0),
        exif={34855: (3, (800,)), 36867: (2, "2024:05:06 07:08:09")},
    )  # fmt: skip
    good = path.read_bytes()
    rng = np.random.default_rng(seed)
    for _ in range(50):
        damaged = bytearray(good)
        for _ in range(4):
            damaged[rng.integers(4, 1000)] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_planes(read_info(path))
        except KpnError as error:
            assert "\n" not in str(error)


# --- the shared files -----------------------------------------------------------------

_CHILD = """
import json, sys
from kpn_cli.errors import KpnError
from kpn_cli.raw.reader import read_info, read_mosaic
for path in sys.argv[1:]:
    try:
        outcome = list(read_mosaic(read_info(path)).shape)
    except KpnError as error:
        outcome = str(error)
    print(json.dumps([path, outcome]), flush=True)
"""


def _shared(folder: str) -> list:
    files = sorted((SHARED / folder).glob("*"))
    missing = pytest.param(None, marks=pytest.mark.skip(reason=f"{SHARED / folder} is not here"))
    return [pytest.param(path, id=path.name) for path in files] or [missing]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, list[int] | str]:
    """File -> shape or message, from a process of its own: no file may hang or crash it."""
    files = [str(p) for folder in ("bad", "single") for p in sorted((SHARED / folder).glob("*"))]
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, *files],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=TIME_LIMIT,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    return dict(json.loads(line) for line in child.stdout.splitlines())


@pytest.mark.parametrize("path", _shared("bad"))
def test_bad_files_are_refused_in_one_line(path, outcomes):
    assert outcomes[str(path)] == refusal(path)


@pytest.mark.parametrize("path", _shared("single"))
def test_single_files_are_read_or_refused_by_what_they_are(path, outcomes):
    if path.name in READABLE:
        info = read_info(path)
        assert outcomes[str(path)] == [info.height, info.width]
    else:
        assert outcomes[str(path)] == refusal(path)
        assert NAMED[path.name] in refusal(path)


@pytest.mark.parametrize("path", [*_shared("pi-static")[:1], *_shared("pi-moving")[-1:]])
def test_raspberry_pi_frames_are_read(path):
    info = read_info(path)
    assert (info.phase, info.height, info.width) == ("BGGR", 1088, 1456)
    assert (info.black, info.white, info.iso) == ((60,) * 4, 1023, 100)
    assert info.noise_profile is None and info.captured is None
    assert read_mosaic(info).min() >= 59
    assert read_planes(info).shape == (4, 545, 729)


@pytest.mark.parametrize("keep", [0.2, 0.999])
@pytest.mark.parametrize("name", sorted(READABLE))
def test_real_files_cut_short_are_refused(tmp_path, name, keep):
    if not (SHARED / "single" / name).exists():
        pytest.skip(f"{SHARED / 'single'} is not here")
    data = (SHARED / "single" / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(keep * len(data))])
    assert "too early" in refusal(path)


def test_white_of_a_dng_is_what_it_says_even_if_libraw_knows_the_camera(tmp_path):
    # By the name alone, LibRaw says that a D750 is linear up to 61247 of 65535.
    camera = [(271, 2, 0, "NIKON CORPORATION", True), (272, 2, 0, "NIKON D750", True)]
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), white=65535, extra=camera)
    assert read_info(path).white == 65535
