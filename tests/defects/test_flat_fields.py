"""The defects of a sensor with known truth are found in its flats and darks."""

from __future__ import annotations

from dataclasses import replace

import flat_frames
import numpy as np
import pytest

from kpn_cli.defects.defect_list import DefectList
from kpn_cli.defects.flat_fields import FlatDefects
from kpn_cli.image import bayer
from kpn_cli.raw.info import RawInfo
from kpn_cli.raw.reader import read_info

NOISE = flat_frames.truth(800)
#: In the visible mosaic: alone, at corners and edges, in pairs.
HOT = [(0, 0), (50, 61), (50, 62), (79, 100), (31, 117)]
DEAD = [(0, 40), (22, 30), (24, 30), (78, 0), (60, 118)]


@pytest.fixture(scope="module")
def info(tmp_path_factory) -> RawInfo:
    path = tmp_path_factory.mktemp("info") / "a.dng"
    noisy = NOISE.sample(flat_frames.flat(0.2, 40, 60), np.random.default_rng(0))
    return replace(read_info(flat_frames.write(path, noisy, 800)), height=80, width=120)


def inside(info: RawInfo, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(row, column) for row, column in places if row < info.height and column < info.width]


def frame(light: float, info: RawInfo, rng: np.random.Generator, glow: float = 0.05) -> np.ndarray:
    """Planes of an even surface, with defects, as a file of `info` has them."""
    clean = bayer.unpack(
        flat_frames.flat(light, 42, 62), info.phase, info.height, info.width
    ).copy()
    for row, column in inside(info, DEAD):
        clean[row, column] *= 0.1
    for row, column in inside(info, HOT):
        clean[row, column] += glow
    # As it is read: packed with mirrored borders.
    planes = bayer.pack(clean, info.phase)
    noisy = bayer.unpack(NOISE.sample(planes, rng), info.phase, info.height, info.width)
    return bayer.pack(noisy, info.phase)


def found(info: RawInfo, lights, frames: int = 2, **changes) -> DefectList | None:
    rng = np.random.default_rng(1)
    defects = FlatDefects()
    for light in lights:
        for _ in range(frames):
            defects.add(info, frame(light, info, rng, **changes))
        defects.end_exposure()
    return defects.result()


def places(defects: DefectList | None) -> list[tuple[int, int]]:
    assert defects is not None
    return list(zip(defects.rows, defects.columns, strict=True))


@pytest.mark.parametrize("phase", bayer.PHASES)
@pytest.mark.parametrize("size", [(80, 120), (79, 119)])
def test_hot_and_dead_pixels_are_found_and_no_others(phase, size, info):
    of_phase = replace(info, phase=phase, height=size[0], width=size[1])
    defects = found(of_phase, (0.0, 0.3))
    assert places(defects) == sorted(inside(of_phase, HOT + DEAD))
    assert (defects.height, defects.width) == size


def test_places_count_from_the_origin_of_the_whole_frame(info):
    defects = found(replace(info, origin=(5, 2)), (0.3,))
    assert places(defects) == sorted((row + 5, column + 2) for row, column in HOT + DEAD)


def test_dark_frames_show_hot_pixels_and_no_dead_ones(info):
    assert places(found(info, (0.0,), glow=0.005)) == sorted(HOT)


def test_faint_hot_pixels_that_flats_hide_are_found_in_darks(info):
    assert places(found(info, (0.6,), glow=0.01)) == sorted(DEAD)
    assert places(found(info, (0.6, 0.0), glow=0.01)) == sorted(HOT + DEAD)


def test_a_flash_in_one_frame_is_no_defect(info):
    rng = np.random.default_rng(2)
    defects = FlatDefects()
    for number in range(3):
        planes = frame(0.3, info, rng)
        planes[1, 10 + number, 20] = 0.9
        defects.add(info, planes)
    defects.end_exposure()
    assert places(defects.result()) == sorted(HOT + DEAD)


@pytest.mark.parametrize("lights", [(), (0.0,), (0.0, 0.3)])
def test_one_frame_of_each_exposure_tells_nothing(lights, info):
    assert found(info, lights, frames=1) is None


def test_a_surface_that_is_not_even_tells_nothing(info):
    rng = np.random.default_rng(3)
    texture = rng.uniform(0.1, 0.8, (4, 40, 60)).astype(np.float32)
    texture[rng.random(texture.shape) < 0.9] = 0.3
    defects = FlatDefects()
    for _ in range(2):
        defects.add(info, NOISE.sample(texture, rng))
    defects.end_exposure()
    assert defects.result() is None


@pytest.mark.parametrize(
    "other", [{"height": 60}, {"width": 118}, {"phase": "RGGB"}, {"origin": (1, 0)}]
)
def test_frames_of_another_part_of_the_sensor_are_left_out(other, info):
    rng = np.random.default_rng(4)
    defects = FlatDefects()
    for _ in range(2):
        defects.add(info, frame(0.3, info, rng))
    defects.end_exposure()
    changed = replace(info, **other)
    for _ in range(2):
        defects.add(changed, frame(0.0, changed, rng)[:, ::-1].copy())
    defects.end_exposure()
    assert places(defects.result()) == sorted(HOT + DEAD)


def test_clipped_and_noiseless_flats_have_no_defects(info):
    defects = FlatDefects()
    for _ in range(2):
        defects.add(info, np.ones((4, 41, 60), np.float32))
    defects.end_exposure()
    assert places(defects.result()) == []
