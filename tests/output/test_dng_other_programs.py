"""LibRaw, exiftool, darktable and RawTherapee take our DNGs like their sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rawpy
import tifffile
from dng_factory import write_dng
from dng_results import NOISE, NOW, assert_alike, identity, rendered
from raw_files import BLACK, WHITE, nef, rich_dng, scene

from kpn_cli.image.bayer import PHASES
from kpn_cli.output.develop import develop
from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.synthesis.camera import Camera, write_frames

#: Every phase, orientations, odd areas and crops, black levels, a table.
MATRIX = {
    **{
        f"{phase}-{name}": {"phase": phase, "active_area": area, "black": (BLACK,)}
        for phase in PHASES
        for name, area in {"whole": None, "odd": (7, 5, 271, 397)}.items()
    },
    "blacks": {"black": (520, 512, 500, 530), "black_repeat": (2, 2)},
    "table": {
        "linearization": np.rint(BLACK + (WHITE - BLACK) * np.linspace(0, 1, 256) ** 2).astype(int),
        "black": (BLACK,),
    },
    **{f"turned-{n}": {} for n in (2, 3, 5, 6, 8)},
    "synth": {},
}
#: Without what depends on the numbers' size: its balance before demosaicing, and demosaicing
#: that adapts to edges.
PROFILE = """[Version]
AppVersion=5.9
Version=349
[RAW Bayer]
Method=fast
[RAW Preprocess WB]
Mode=0
"""


def needs(program: str):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_libraw_develops_the_result_like_the_source_in_all_orientations(tmp_path, orientation):
    rich_dng(tmp_path / "a.dng", scene(160, 264), orientation=orientation)
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng")
    assert_alike(rendered(output), rendered(tmp_path / "a.dng"))
    info = read_info(output)
    assert info.orientation == orientation
    planes = read_planes(info)
    linear = develop(info, planes, linear=True)
    assert_alike(linear, rendered(output, demosaic_algorithm=rawpy.DemosaicAlgorithm.DHT))


@pytest.mark.parametrize("phase", PHASES)
def test_libraw_develops_all_phases_with_odd_areas_like_the_source(tmp_path, phase):
    source = write_dng(
        tmp_path / "a.dng", scene(161, 221), phase=phase, active_area=(7, 5, 160, 218),
        black=(520, 512, 500, 530), black_repeat=(2, 2), white=WHITE,
    )  # fmt: skip
    output = identity(source, tmp_path / "b.dng")
    # LibRaw doesn't move a 2x2 black pattern with an odd area, in neither of them: 0.2 %.
    assert_alike(rendered(output), rendered(source), dark=0.1)


def test_libraw_develops_real_results_like_their_sources(real):
    source, output = real
    assert_alike(rendered(output), rendered(source), dark=0.02)


def run(*command, limit: int = 120) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=limit,
        env=environment, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def exiftool_warnings(path: Path) -> set[str]:
    lines = run("exiftool", "-validate", "-warning", "-error", "-a", "-s3", path).splitlines()
    return {line for line in lines if "Warning" not in line and line != "OK"}


@needs("exiftool")
@pytest.mark.parametrize("order", ["<", ">"])
def test_exiftool_finds_nothing_new_to_warn_about(tmp_path, order):
    rich_dng(tmp_path / "a.dng", scene(160, 208), order)
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng")
    assert exiftool_warnings(output) <= exiftool_warnings(tmp_path / "a.dng")


@needs("exiftool")
def test_exiftool_finds_nothing_new_to_warn_about_in_real_files(real):
    source, output = real
    assert exiftool_warnings(output) <= exiftool_warnings(source)


@needs("exiftool")
def test_exiftool_finds_nothing_to_warn_about_in_a_dng_from_a_nef(tmp_path):
    output = identity(nef(tmp_path / "a.nef", scene(160, 264)), tmp_path / "b.dng")
    assert exiftool_warnings(output) <= exiftool_warnings(tmp_path / "a.nef")


def matrix(folder: Path) -> Path:
    """Write sources and identities of all cases, `NAME-a.dng` and `NAME-b.dng`."""
    folder.mkdir()
    for name, how in MATRIX.items():
        source = folder / f"{name}-a.dng"
        mosaic = scene(278, 406)
        if name.startswith("turned"):
            rich_dng(source, mosaic, orientation=int(name[-1]))
        elif name == "synth":
            planes = np.stack([(mosaic[i::2, j::2] - BLACK) / (WHITE - BLACK)
                               for i, j in ((0, 1), (0, 0), (1, 1), (1, 0))])  # fmt: skip
            write_frames(folder, planes[None], NOISE, Camera(), NOW, "synth")
            (folder / "IMG_0000.dng").rename(source)
        else:
            if "linearization" in how:
                mosaic = (255 * ((mosaic - BLACK) / (WHITE - BLACK)).clip(0, 1) ** 0.5).astype("u2")
            write_dng(source, mosaic, white=WHITE, **how)
        identity(source, folder / f"{name}-b.dng", compression="lossless")
    return folder


def assert_all_alike(folder: Path) -> None:
    for name in MATRIX:
        ours, theirs = (tifffile.imread(folder / f"{name}-{which}.tif") for which in "ba")
        try:
            assert_alike(ours, theirs, dark=0.02)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


@needs("darktable-cli")
def test_darktable_develops_results_like_their_sources(tmp_path):
    folder = matrix(tmp_path / "all")
    run("darktable-cli", folder, folder, "--out-ext", ".tif", "--icc-type", "LIN_REC709",
        "--core", "--configdir", tmp_path / "config", "--library", ":memory:",
        "--disable-opencl", "--conf", "plugins/imageio/format/tiff/bpp=16", limit=600)  # fmt: skip
    assert_all_alike(folder)


@needs("rawtherapee-cli")
@pytest.mark.parametrize("profile", [PROFILE, PROFILE.partition("[RAW")[0]])
def test_rawtherapee_develops_results_like_their_sources(tmp_path, profile):
    folder = matrix(tmp_path / "all")
    (tmp_path / "plain.pp3").write_text(profile)
    run("rawtherapee-cli", "-Y", "-b16", "-t", "-p", tmp_path / "plain.pp3",
        "-o", folder, "-c", *sorted(folder.glob("*.dng")), limit=600)  # fmt: skip
    assert_all_alike(folder)
