"""Mosaic and planes are those of the file; unreadable files are refused in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dng_factory import write_dng
from dng_mosaics import noise_mosaic, refusal

from kpn_cli.errors import KpnError
from kpn_cli.image import bayer
from kpn_cli.raw.reader import read_info, read_mosaic, read_planes

SHARED = Path(__file__).resolve().parents[3] / "shared" / "raw"

#: Readable files of the shared set; all others of these folders must be refused.
READABLE = {"canon-kiss-x4.dng", "blackmagic-pocket-linearization-table.dng"}

#: Words that the errors about files that are not Bayer must contain.
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


def test_a_linearization_table_is_applied(tmp_path):
    sensor = np.random.default_rng(0).integers(0, 256, (46, 68)).astype(np.uint16)
    table = (np.arange(256) * 16).astype(np.uint16)
    path = write_dng(tmp_path / "a.dng", sensor, linearization=table, white=4080)
    assert np.array_equal(read_mosaic(read_info(path)), table[sensor])


# --- what is refused ------------------------------------------------------------------


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
def test_single_files_are_read_or_refused_by_their_kind(path, outcomes):
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
