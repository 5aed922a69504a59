"""The brightness of frames: by their tags, or by what they show if these are wrong or missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cards import write_bracket
from pictures import planes

from kpn_cli.burst import brightness
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.raw.info import RawInfo
from kpn_cli.raw.reader import read_info

NOISE = NoiseModel.uniform(2e-4, 1e-6)


@pytest.fixture(scope="module")
def info(tmp_path_factory) -> RawInfo:
    (path,) = write_bracket(tmp_path_factory.mktemp("one"), (0,))
    return replace(read_info(path), black=(64.0,) * 4, white=4095.0)


def frames(info, stops, stated=None, *, scene=None, brightest=0.5, seed=0):
    """Return frames of a scene at exposures in EV, and the exposures that they state."""
    scene = brightest * planes(1, 96, 128) if scene is None else scene
    rng = np.random.default_rng(seed)
    infos, shown = [], []
    for n, (stop, tag) in enumerate(zip(stops, stops if stated is None else stated, strict=True)):
        time = None if tag is None else 0.01 * 2.0**tag
        infos.append(replace(info, path=Path(f"{n}.dng"), exposure_time=time))
        part = scene[n] if isinstance(scene, list) else scene
        samples = NOISE.sample(np.float32(2.0**stop) * part.astype(np.float32), rng)
        shown.append(np.clip(64 + 4031 * samples, 0, 4095).astype(np.uint16))
    return infos, shown


def over_first(stops):
    return [stop - stops[0] for stop in stops]


@pytest.mark.parametrize("stops", [(0, -2, 2), (0, -6, -3, 3, 6), (0, -4, 4), (0, 0.7, -0.7)])
def test_right_tags_are_kept(info, stops):
    found = brightness.brightness(*frames(info, stops), any_exposure=True)
    assert found == brightness.Brightness(None, mixed=True)


def test_shutters_may_be_off_by_a_quarter_of_a_stop(info):
    found = brightness.brightness(
        *frames(info, (0, -1.75, 2.25, 0.2), (0, -2, 2, 0)), any_exposure=True
    )
    assert found.stops is None


@pytest.mark.parametrize("liar", [0, 1, 2, 3])
@pytest.mark.parametrize("lie", [-2.5, -0.5, 0.5, 3])
def test_what_most_frames_state_is_right(info, liar, lie):
    stops = (0, -2, 1, -1)
    stated = [stop + lie * (n == liar) for n, stop in enumerate(stops)]
    found = brightness.brightness(*frames(info, stops, stated), any_exposure=True)
    assert over_first(found.stops) == pytest.approx(stops, abs=0.03)


@pytest.mark.parametrize("stated", [(None,) * 5, (0, None, None, 2, None), (None, -6, -3, 3, 6)])
def test_frames_without_times_are_as_bright_as_they_show_over_12_ev(info, stated):
    stops = (0, -5, -3, 2, 5)
    stated = tuple(
        stop if tag is not None else None for stop, tag in zip(stops, stated, strict=True)
    )
    found = brightness.brightness(*frames(info, stops, stated, brightest=0.2), any_exposure=True)
    assert found.mixed
    assert over_first(found.stops)[2:4] == pytest.approx([-3, 2], abs=0.05)
    assert sorted(found.stops) == [found.stops[n] for n in (1, 2, 0, 3, 4)]


def test_another_scene_is_no_other_exposure(info):
    ramp = np.broadcast_to(np.geomspace(0.02, 0.8, 128), (4, 96, 128))
    scene = [ramp, 0.4 * ramp[:, :, ::-1]]
    differing = frames(info, (0, 0), (None, None), scene=scene)
    assert brightness.brightness(*differing, any_exposure=True) == brightness.Brightness()


@pytest.mark.parametrize(("dark", "share"), [(0.0, 0.75), (8 / 4031, 0.55)])
def test_an_error_of_the_black_level_in_dark_parts_does_not_show(info, dark, share):
    scene = 0.2 * planes(1, 192, 256) + 0.02
    scene[:, :, : round(share * 256)] = dark
    infos, shown = frames(info, (0, 2, -1), (None,) * 3, scene=scene)
    shown = [samples + 2 for samples in shown]  # the tags say 2 DN less
    found = brightness.brightness(infos, shown, any_exposure=True)
    assert over_first(found.stops) == pytest.approx((0, 2, -1), abs=0.05)


def test_other_scenes_are_no_bracket_of_frames_that_state_one_exposure(info):
    ramp = np.broadcast_to(np.geomspace(0.02, 0.8, 128), (4, 96, 128))
    scene = [0.3 * ramp, ramp[:, :, ::-1], 0.08 * ramp]
    differing = frames(info, (0, 0, 0), scene=scene)
    assert brightness.brightness(*differing, any_exposure=True) == brightness.Brightness()


def test_two_frames_without_times_are_a_bracket_if_they_show_one(info):
    found = brightness.brightness(*frames(info, (0, -1), (None,) * 2), any_exposure=True)
    assert found.mixed and over_first(found.stops) == pytest.approx([0, -1], abs=0.03)


def test_a_white_frame_without_time_is_as_bright_as_white_over_the_others(info):
    infos, shown = frames(info, (0, -2, 9), (0, -2, None), scene=np.full((4, 96, 128), 0.1))
    found = brightness.brightness(infos, shown, any_exposure=True)
    assert over_first(found.stops) == pytest.approx([0, -2, np.log2(10)], abs=0.03)


def test_of_two_middle_exposures_the_brighter_one_is_metered(info):
    assert brightness.middle([info] * 4, [0, -2, 2, 4]) == 2


def test_frames_as_bright_with_other_settings_are_other_exposures(info):
    infos = [replace(info, iso=iso) for iso in (100.0, 100.0, 400.0)]
    assert brightness.alike(infos, [0, 0.1, 0]) == [[0, 1], [2]]


@pytest.mark.parametrize("light", [0.0, 1e-4, 50.0])
def test_frames_that_show_nothing_contradict_no_tags(info, light):
    scene = [0.3 * planes(1, 96, 128)] * 3
    scene[1] = np.full_like(scene[0], light)
    found = brightness.brightness(
        *frames(info, (0, 0, 2), (0, -6 if light < 1 else 6, 2), scene=scene), any_exposure=True
    )
    assert found == brightness.Brightness(None, mixed=True)


def test_frames_of_one_exposure_are_not_looked_at_unless_exposures_may_differ(info):
    infos, _ = frames(info, (0, 0, 0))
    assert brightness.brightness(infos, [], any_exposure=False) == brightness.Brightness()


@pytest.mark.parametrize("stated", [0, None])
def test_equal_frames_have_one_exposure(info, stated):
    found = brightness.brightness(*frames(info, (0,) * 4, (stated,) * 4), any_exposure=True)
    assert found == brightness.Brightness()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 700)])
def test_any_size_will_do(info, size):
    scene = np.full((4, *size), 0.2)
    found = brightness.brightness(
        *frames(info, (0, 2, -2), (None,) * 3, scene=scene), any_exposure=True
    )
    assert found.mixed and over_first(found.stops) == pytest.approx([0, 2, -2], abs=0.2)
