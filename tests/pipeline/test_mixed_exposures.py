"""A bracket from its files to its result: notes, exposures, headroom and lift."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from cards import denoised, write_bracket, write_bursts, write_frame
from mixed_bursts import NOISE, expose, matched
from raw_files import BLACK, WHITE

import kpn_cli
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.merge.headroom import MAX_WHITE
from kpn_cli.noise.selection import NoiseReport
from kpn_cli.pipeline import denoise, loading, prepare
from kpn_cli.pipeline.options import Options
from kpn_cli.pipeline.result import Result
from kpn_cli.raw.reader import read_info, read_planes

#: Large enough for the noise to be measured, and for eight blocks whose brightness is compared.
SIZE = (192, 256)
STOPS = (0, -2, 2)


def options(folder: Path, weights: Path, **more) -> Options:
    return Options(
        folder / "out", **{"formats": ("dng",), "weights": weights, "exposures": "mixed"} | more
    )


def merged(files, weights, **more):
    return kpn_cli.denoise(files, options(files[0].parent, weights, **more))


def bracket(folder: Path, stops=STOPS, light: float = 0.4, off=(0, 0, 0, 0)) -> list[Path]:
    """Write a bracket; with the usual light none of it clips at 2 EV, with 2.5 the reference.

    `off` is by how many EV each frame is brighter than it states.
    """
    files = [folder / f"HDR_{n}.dng" for n in range(len(stops))]
    for n, (path, stop) in enumerate(zip(files, stops, strict=True)):
        write_frame(
            path, 0.2 * n + 0.05, size=SIZE, exposure_time=0.01 * 2.0**stop,
            light=light * 2.0 ** (stop + off[n]),
        )  # fmt: skip
    return files


@pytest.fixture(autouse=True)
def _same_time(monkeypatch):
    """So that equal results are equal files."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


def baseline_exposure(path: Path) -> float:
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags.get(50730)
        return 0.0 if tag is None else tag.value[0] / tag.value[1]


def test_the_result_states_the_exposure_of_every_frame(tmp_path, averaging):
    result = merged(bracket(tmp_path), averaging)
    assert [path.name for path in result.frames] == ["HDR_0.dng", "HDR_1.dng", "HDR_2.dng"]
    assert result.settings == ["1/100 s, ISO 800", "1/400 s, ISO 800", "1/25 s, ISO 800"]
    assert result.exposure == pytest.approx([1, 0.25, 4], rel=0.01)
    assert result.stops == pytest.approx(STOPS, abs=0.02)
    assert not result.notes
    assert not result.dropped
    told = result.exposures()
    assert told[1] == "1/400 s, ISO 800 (-2.0 EV): HDR_1.dng"


def test_the_ev_of_an_exposure_is_the_mean_without_the_reference():
    names = [Path(f"{n}.dng") for n in range(3)]
    exposure = [1.0, 2**0.2, 2**0.1]
    result = Result(names[0], names, {}, exposure=exposure, settings=["1/100 s"] * 3)
    assert result.exposures() == ["1/100 s (+0.2 EV): 0.dng, 1.dng, 2.dng"]


def test_json_states_exposures_settings_and_notes(tmp_path, averaging):
    files = bracket(tmp_path / "in", (0, -2, 1), off=(0, 0, 1))
    found = denoised(
        tmp_path / "in", "-o", tmp_path / "out", "--weights", averaging, "--format", "dng",
        "--exposures", "mixed", "--headroom", "--reference", files[0].name,
    )  # fmt: skip
    (burst,) = found["bursts"]
    assert [(each["settings"], each["ev"]) for each in burst["exposures"]] == [
        ("1/100 s, ISO 800", 0),
        ("1/400 s, ISO 800", -2),
        ("1/50 s, ISO 800", 2),  # as it shows
    ]
    assert burst["exposure"] == pytest.approx([1, 0.25, 4], rel=0.01)
    first, second = burst["notes"]
    assert first.startswith("HDR_2.dng is 1.0 EV brighter than its tags say (1/50 s, ISO 800)")
    assert second == denoise._NO_HEADROOM
    assert burst["headroom"] == 0


def test_a_bracket_has_less_noise_than_its_reference(tmp_path, averaging):
    files = bracket(tmp_path)
    result = merged(files, averaging)
    assert 0 < result.noise_left < 0.6
    found, truth = (read_planes(read_info(path)) for path in (result.outputs["dng"], files[0]))
    assert found.mean() == pytest.approx(truth.mean(), rel=0.01)


@pytest.mark.parametrize("lie", [-1.0, 1.5])
def test_a_file_that_states_another_exposure_than_it_shows_is_named_once(tmp_path, averaging, lie):
    files = bracket(tmp_path, (0, -2, 2 + lie, 0), off=(0, 0, -lie, 0))
    result = merged(files, averaging, reference="first")
    (note,) = result.notes
    word = "darker" if lie > 0 else "brighter"
    assert note.startswith(f"HDR_2.dng is {abs(lie):.1f} EV {word} than its tags say (")
    assert result.exposure == pytest.approx([1, 0.25, 4, 1], rel=0.01)


def untold(folder: Path, stops=STOPS, light: float = 0.4, frames=None) -> list[Path]:
    """Write a bracket, some or all frames of which state no exposure time."""
    files = bracket(folder, stops, light)
    for n in range(len(stops)) if frames is None else frames:
        write_frame(
            files[n], 0.2 * n + 0.05, size=SIZE, exposure_time=None, light=light * 2.0 ** stops[n]
        )
    return files


def test_a_lying_bracket_picks_its_reference_by_what_it_shows(tmp_path, averaging):
    # By the tags, HDR_1 is the darkest frame and HDR_3 the middle one.
    files = bracket(tmp_path, (0, -2, 2, 0, -1), 0.8, off=(0, 3, 0, 0, 0))
    loaded = {
        wanted: loading.load_burst(files, options(tmp_path, averaging, reference=wanted), "")
        for wanted in ("auto", "darkest")
    }
    assert loaded["darkest"].files[0].name == "HDR_4.dng"
    assert loaded["darkest"].lift == pytest.approx(1, abs=0.05)
    assert loaded["auto"].files[0].name in ("HDR_0.dng", "HDR_3.dng")
    assert loaded["auto"].lift == pytest.approx(0, abs=0.05)
    result = merged(files, averaging, reference="darkest")
    (note,) = result.notes
    assert note.startswith("HDR_1.dng is 3.0 EV brighter than its tags say (1/400 s, ISO 800)")
    assert result.stops == pytest.approx([0, 1, 2, 3, 1], abs=0.05)


def test_it_is_the_reference_that_lies_if_all_others_contradict_it(tmp_path, averaging):
    files = bracket(tmp_path, (0, -2, 1, 0), off=(-1, 0, 0, 0))
    result = merged(files, averaging, reference="first")
    (note,) = result.notes
    assert note.startswith("HDR_0.dng is 1.0 EV darker than its tags say (1/100 s, ISO 800)")
    assert result.stops == pytest.approx([0, -1, 2, 1], abs=0.05)


@pytest.mark.parametrize("off", [-1, 1])
def test_of_two_frames_that_contradict_each_other_the_reference_is_right(tmp_path, averaging, off):
    files = bracket(tmp_path, (0, -2), off=(0, off))
    (note,) = merged(files, averaging, reference="first").notes
    assert note.startswith(f"HDR_1.dng is 1.0 EV {'brighter' if off > 0 else 'darker'} than")


def test_frames_that_are_not_merged_tell_too_whose_tags_are_wrong(tmp_path, averaging, monkeypatch):
    files = bracket(tmp_path, (0, -2, 2), off=(0, 3, 0))
    align = prepare._align
    monkeypatch.setattr(prepare, "_align", lambda *a: align(*a).leave_out({2: "blurred"}))
    result = merged(files, averaging, reference="1")
    assert [path.name for path in result.frames] == ["HDR_1.dng", "HDR_0.dng"]
    (note,) = result.notes
    assert note.startswith("HDR_1.dng is 3.0 EV brighter than its tags say")


@pytest.mark.parametrize("frames", [None, (2,), (0, 2), (0,)])
def test_a_bracket_without_exposure_times_is_merged_by_its_brightness(tmp_path, averaging, frames):
    result = merged(untold(tmp_path, frames=frames), averaging)
    assert [path.name for path in result.frames] == ["HDR_0.dng", "HDR_1.dng", "HDR_2.dng"]
    assert result.stops == pytest.approx(STOPS, abs=0.02)
    told = result.notes
    assert len(told) == (3 if frames is None else len(frames))
    for note, n in zip(told, frames or range(3), strict=True):
        assert note.startswith(f"no exposure time in HDR_{n}.dng")
    if frames != (0,):
        assert told[-1] == (
            "no exposure time in HDR_2.dng: its brightness was measured: 2.0 EV above the reference"
        )
        assert "ISO 800 (+2.0 EV): HDR_2.dng" in result.exposures()[2]
    whole = merged(bracket(tmp_path / "whole"), averaging)
    assert result.noise_left == pytest.approx(whole.noise_left, rel=0.1)


def test_the_reference_of_a_bracket_without_exposure_times_follows_its_brightness(
    tmp_path, averaging
):
    files = untold(tmp_path, light=0.8)
    for wanted, name, lift in (("auto", "HDR_0.dng", 0), ("darkest", "HDR_1.dng", 2)):
        loaded = loading.load_burst(files, options(tmp_path, averaging, reference=wanted), "")
        assert loaded.files[0].name == name
        assert loaded.lift == pytest.approx(lift, abs=0.05)


def test_a_burst_of_one_exposure_without_times_is_as_before(tmp_path, averaging):
    files = untold(tmp_path, (0, 0, 0, 0))
    found = []
    for exposures in ("same", "mixed"):
        result = merged(files, averaging, exposures=exposures, overwrite=True)
        assert (result.settings, result.notes) == ([], [])
        found.append(digest(result.outputs["dng"]))
    assert found[0] == found[1]


@pytest.mark.parametrize("lie", [0, 1])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_blank_or_damaged_frame_does_not_move_the_reference(tmp_path, averaging, damaged, lie):
    # Without the darkest one, the brighter of the two in the middle would be +2 EV.
    files = bracket(tmp_path, (0, -2, 2, -4, 4), 0.05, off=(0, 0, 0, 0, -lie))
    if damaged:
        files[3].write_bytes(files[3].read_bytes()[:-20_000])
    else:
        write_frame(files[3], 0.65, size=SIZE, exposure_time=0.01 / 16, light=0.0)
    loaded = loading.load_burst(files, options(tmp_path, averaging), "")
    assert list(loaded.dropped) == [files[3]]
    assert loaded.files[0].name == "HDR_0.dng"
    assert loaded.lift == 0


def test_copies_of_a_frame_do_not_move_the_reference(tmp_path, averaging):
    files = bracket(tmp_path, light=0.05)
    files += [path.with_name(f"HDR_2_{n}.dng") for n, path in enumerate(files)]
    for copy in files[3:]:
        copy.write_bytes(files[2].read_bytes())
    loaded = loading.load_burst(files, options(tmp_path, averaging), "")
    assert len(loaded.dropped) == 3
    assert loaded.files[0].name == "HDR_0.dng"
    assert loaded.lift == 0


def test_a_damaged_frame_without_time_does_not_move_the_reference(tmp_path, averaging):
    files = bracket(tmp_path, (0, 2, 4, -2, -4), 0.05, off=(0,) * 5)
    tags = {"size": SIZE, "exposure_time": None, "light": 0.05 / 16}
    for n in (3, 4):
        write_frame(files[n], 0.2 * n, **tags)
        files[n].write_bytes(files[n].read_bytes()[:-20_000])
    loaded = loading.load_burst(files, options(tmp_path, averaging), "")
    assert loaded.files[0].name == "HDR_1.dng"  # as if they were not there


@pytest.mark.parametrize(("stated", "shown", "kept"), [(6, 1, True), (3, 5, False)])
def test_frames_are_too_far_from_the_reference_by_what_they_show(
    tmp_path, averaging, stated, shown, kept
):
    files = bracket(tmp_path, (0, 0, 1, stated), 0.02, off=(0, 0, 0, shown - stated))
    loaded = loading.load_burst(files, options(tmp_path, averaging, reference="first"), "")
    assert len(loaded.files) == (4 if kept else 3)
    assert kept or loaded.dropped[files[3]].startswith("+5.0 EV to the reference")


def test_the_time_of_a_damaged_frame_says_nothing_among_frames_without_times(tmp_path, averaging):
    files = untold(tmp_path, (0, -2, 2, -4), frames=(0, 1, 2))
    files[3].write_bytes(files[3].read_bytes()[:-20_000])
    loaded = loading.load_burst(files, options(tmp_path, averaging), "")
    assert [path.name for path in loaded.files] == ["HDR_0.dng", "HDR_1.dng", "HDR_2.dng"]
    assert loaded.lift == 0


def test_frames_that_state_one_exposure_are_a_bracket_if_they_show_one(tmp_path, averaging):
    lying = bracket(tmp_path / "bracket", (0, 0, 0), off=(0, -2, 1.5))
    result = merged(lying, averaging)
    assert result.stops == pytest.approx([0, -2, 1.5], abs=0.05)
    assert len(result.notes) == 2
    flicker = bracket(tmp_path / "flicker", (0, 0, 0), off=(0, -0.5, 0))
    assert not merged(flicker, averaging).settings


def test_a_shutter_that_is_off_by_six_per_cent_is_matched_without_a_note(tmp_path, averaging):
    files = bracket(tmp_path, off=(0, 0, math.log2(1.06)))
    result = merged(files, averaging, reference="first")
    assert not result.notes
    assert result.exposure == pytest.approx([1, 0.25, 4.24], rel=0.01)


def test_headroom_keeps_highlights_and_states_the_baseline_exposure(tmp_path, averaging):
    files = bracket(tmp_path, light=2.5)
    plain = merged(files, averaging, reference="first")
    assert baseline_exposure(plain.outputs["dng"]) == 0
    wide = merged(files, averaging, reference="first", headroom=True, overwrite=True)
    assert wide.notes == ["--headroom: the DNG reaches 2.0 EV beyond the reference's white"]
    assert (plain.headroom, wide.headroom) == (None, pytest.approx(2, abs=0.01))
    assert baseline_exposure(wide.outputs["dng"]) == pytest.approx(2, abs=0.02)
    signal = 4 * read_planes(read_info(wide.outputs["dng"]))
    short = 4 * read_planes(read_info(files[1]))
    bright = short > 1.1
    assert bright.mean() > 0.1
    assert signal[bright].mean() == pytest.approx(short[bright].mean(), rel=0.01)


def test_headroom_without_anything_brighter_is_told_and_changes_nothing(tmp_path, averaging):
    files = bracket(tmp_path)
    plain = read_planes(read_info(merged(files, averaging).outputs["dng"]))
    wide = merged(files, averaging, headroom=True, overwrite=True)
    assert wide.notes == [denoise._NO_HEADROOM]
    np.testing.assert_array_equal(read_planes(read_info(wide.outputs["dng"])), plain)


def test_with_the_darkest_reference_the_result_is_to_be_lifted(tmp_path, averaging):
    files = bracket(tmp_path, (0, -2, -1), 2.5)
    result = merged(files, averaging, reference="darkest")
    assert result.reference.name == "HDR_1.dng"
    lifted = baseline_exposure(result.outputs["dng"])
    usual = merged(files, averaging, overwrite=True)
    assert usual.reference.name == "HDR_2.dng"
    assert baseline_exposure(usual.outputs["dng"]) == 0
    assert lifted == pytest.approx(1, abs=0.01)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_of_one_exposure_give_the_same_bytes_whatever_exposures_are_wanted(tmp_path, weights):
    write_bursts(tmp_path / "a", 1, frames=3, size=SIZE)
    files = sorted((tmp_path / "a").iterdir())
    found = [
        digest(merged(files, weights, overwrite=True, **more).outputs["dng"])
        for more in ({"exposures": "same"}, {}, {"reference": "auto"})
    ]
    assert len(set(found)) == 1


# --- steps ------------------------------------------------------------------


def infos_of(files):
    return [read_info(path) for path in files]


@pytest.mark.parametrize("saturated", [None, 0.9, 1.05])
def test_frames_clip_where_their_files_do(tmp_path, weights, saturated):
    """Above white too: what is brighter than white is not clipped, and not to be cut."""
    infos = infos_of(write_bracket(tmp_path, STOPS))
    if saturated is not None:
        level = BLACK + saturated * (WHITE - BLACK)
        infos = [replace(info, saturation=level) for info in infos]
    frames = expose(np.zeros((4, 8, 8), np.float32))
    how = options(tmp_path, weights)
    own = prepare._with_own_noise(frames, infos, NoiseReport("given", NOISE), how)
    assert [frame.saturation for frame in own] == pytest.approx([saturated or 1] * 3)
    assert [frame.noise for frame in own] == [NOISE] * 3


@pytest.mark.parametrize("saturation", [1.0, 0.9])
def test_headroom_is_what_the_shortest_exposure_can_hold(tmp_path, saturation):
    info = replace(read_info(write_bracket(tmp_path, (0,))[0]), white_balance=(2.0, 1.0, 1.6))
    scene = np.zeros((4, 8, 8), np.float32)

    def headroom(*gains):
        frames = matched(expose(scene, gains, saturation=saturation), gains)
        return denoise.headroom_of(info, frames)

    room = headroom(1.0, 0.25, 4.0, 0.5)
    assert room.white == 4
    # A neutral surface whose green is just clipped twice over.
    assert room.neutral == pytest.approx([saturation * x for x in (1, 2, 2, 1.25)])
    assert headroom(1.0, 2.0, 4.0) is None
    assert headroom(1.0, 1.0) is None
    assert headroom(1.0, 1 / 18).white == MAX_WHITE


def test_a_bracket_is_prepared_with_the_noise_of_each_frame(tmp_path, weights):
    files = bracket(tmp_path)
    write_frame(files[1], 0.25, size=SIZE, exposure_time=0.01, iso=200.0, light=0.1)
    how = options(tmp_path, weights, noise=NoiseModel.uniform(1e-4, 1e-6))
    loaded = loading.load_burst(files, how, "digest")
    prepared = prepare.prepare(loaded, how, torch.device("cpu"))
    by_name = {
        loaded.files[n].name: frame
        for n, frame in zip(prepared.aligned.used, prepared.aligned.frames, strict=True)
    }
    assert by_name["HDR_0.dng"].noise == by_name["HDR_2.dng"].noise == how.noise
    assert by_name["HDR_1.dng"].noise == how.noise.at_iso(0.25)
    assert by_name["HDR_1.dng"].gain == pytest.approx(4, rel=0.01)
