"""Frames with other settings are refused; the sharpest middle frame is the reference."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pictures import planes

from kpn_cli.burst import reference
from kpn_cli.errors import KpnError
from kpn_cli.raw.info import RawInfo

_INFO = RawInfo(
    path=Path("IMG_0000.dng"),
    make="kpn",
    model="test",
    phase="RGGB",
    height=100,
    width=120,
    black=(64.0,) * 4,
    white=1023.0,
    iso=800.0,
    exposure_time=0.01,
    f_number=2.8,
    focal_length=None,
    captured=None,
    orientation=1,
    white_balance=(2.0, 1.0, 1.5),
    color_matrix=None,
    noise_profile=None,
)


def _frames(count: int) -> list[RawInfo]:
    start = datetime(2026, 1, 1)
    return [
        replace(_INFO, path=Path(f"IMG_{n:04d}.dng"), captured=start + timedelta(milliseconds=n))
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "other"}, "camera kpn other"),
        ({"width": 122}, "size 122x100"),
        ({"phase": "BGGR"}, "CFA phase BGGR"),
        ({"iso": 3200.0}, "ISO 3200"),
        ({"exposure_time": 0.08}, "exposure time 1/12 s"),
        ({"exposure_time": 2.5}, "exposure time 2.5 s"),
        ({"f_number": 8.0}, "aperture f/8"),
    ],
)
def test_the_file_that_differs_is_named_at_any_position(change, words):
    for position in range(4):
        infos = _frames(4)
        infos[position] = replace(infos[position], **change)
        with pytest.raises(KpnError, match=f"^IMG_{position:04d}.dng: {words}, but IMG_"):
            reference.check_same_settings(infos)


def test_a_bracket_names_all_files_that_differ_and_their_folder():
    infos = [replace(info, path=Path("card") / info.path.name) for info in _frames(5)]
    for n, time in ((1, 0.0025), (2, 0.04)):
        infos[n] = replace(infos[n], exposure_time=time)
    with pytest.raises(KpnError) as caught:
        reference.check_same_settings(infos)
    assert str(caught.value) == (
        "IMG_0001.dng: exposure time 1/400 s, but IMG_0000.dng has 1/100 s (others that differ: "
        "IMG_0002.dng); pass the frames of one burst only (folder card), or merge them all with "
        "--exposures mixed"
    )
    reference.check_same_settings(infos, "mixed")


def test_other_cameras_are_an_error_with_mixed_exposures_too():
    infos = _frames(3)
    for change in ({"model": "other"}, {"width": 122}):
        with pytest.raises(KpnError) as caught:
            reference.check_same_settings([*infos[:2], replace(infos[2], **change)], "mixed")
        assert "--exposures" not in str(caught.value)


def test_automatic_exposure_is_one_burst_but_its_steps_in_the_order_of_a_bracket_are_not():
    infos = _frames(4)
    drift = [replace(i, exposure_time=0.01 * 2 ** (n / 3)) for n, i in enumerate(infos)]
    reference.check_same_settings(drift[::-1])
    bracket = [replace(i, exposure_time=0.01 * 2.0**n) for n, i in enumerate(infos[:3])]
    with pytest.raises(KpnError, match="--exposures mixed"):
        reference.check_same_settings([bracket[1], bracket[0], bracket[2]])


def test_a_long_list_of_files_that_differ_is_cut():
    infos = _frames(40)
    infos[20:34] = [replace(info, iso=3200.0) for info in infos[20:34]]
    with pytest.raises(KpnError, match=r"differ: IMG_0021.dng, .*, IMG_0029.dng, 4 more\)"):
        reference.check_same_settings(infos)


def test_frames_whose_exposure_differs_by_rounding_are_one_burst():
    infos = [
        replace(info, iso=801.0 + n, exposure_time=time, f_number=1.8 - n / 1000)
        for n, (info, time) in enumerate(
            zip(_frames(3), (1 / 60, 16667e-6, 16664027e-9), strict=True)
        )
    ]
    reference.check_same_settings(infos)


def test_a_frame_that_does_not_state_a_setting_may_be_of_the_burst_but_hides_no_other_exposure():
    infos = _frames(4)
    infos[1] = replace(infos[1], iso=None)
    reference.check_same_settings(infos)
    for kept in (infos, infos[:3]):
        changed = [*kept[:-1], replace(kept[-1], iso=(infos[0].iso or 0) * 8)]
        with pytest.raises(KpnError, match=f"^{kept[-1].path.name}: ISO "):
            reference.check_same_settings(changed)


def test_frames_may_differ_in_time_and_name():
    reference.check_same_settings(_frames(8))


def test_frames_are_sorted_by_time_and_by_name_where_one_has_no_time():
    infos = _frames(3)
    late_first = [replace(infos[2], path=Path("A.dng")), infos[0], infos[1]]
    assert reference.sort_by_time(late_first) == [infos[0], infos[1], late_first[0]]
    untimed = [replace(info, captured=None) for info in late_first]
    assert [info.path.name for info in reference.sort_by_time(untimed)] == [
        "A.dng",
        "IMG_0000.dng",
        "IMG_0001.dng",
    ]


def test_numbers_in_names_are_sorted_by_value():
    infos = [replace(_INFO, path=Path(f"card/IMG_{n}.dng")) for n in (10, 9, 100)]
    assert [info.path.stem for info in reference.sort_by_time(infos)] == [
        "IMG_9",
        "IMG_10",
        "IMG_100",
    ]


def test_a_blurred_frame_is_less_sharp_at_the_same_noise():
    sharp = planes(1, 60, 80)
    blurred = (sharp + np.roll(sharp, 1, 1) + np.roll(sharp, 2, 1) + np.roll(sharp, 3, 1)) / 4
    noise = 0.05 * np.random.default_rng(0).standard_normal(sharp.shape)
    assert reference.frame_sharpness(sharp + noise) > reference.frame_sharpness(
        blurred + np.roll(noise, 7, 2)
    )


def test_the_reference_is_the_sharpest_of_the_middle_half():
    infos = _frames(8)
    sharp = [9.0, 1.0, 2.0, 3.0, 5.0, 4.0, 9.0, 9.0]
    assert reference.pick_reference("auto", infos, sharp) == 4
    assert reference.pick_reference("first", infos, sharp) == 0
    assert reference.pick_reference("6", infos, sharp) == 6
    assert reference.pick_reference("IMG_0003.dng", infos, sharp) == 3
    assert reference.pick_reference("auto", infos[:1], sharp[:1]) == 0


@pytest.mark.parametrize("wanted", ["8", "-1", "IMG_9999.dng", "", "last"])
def test_an_unknown_reference_is_an_error_that_lists_the_frames(wanted):
    with pytest.raises(KpnError, match=r"IMG_0000\.dng"):
        reference.pick_reference(wanted, _frames(8), [0.0] * 8)


def test_a_name_in_two_folders_is_ambiguous_but_its_path_is_not():
    infos = [replace(_INFO, path=Path(folder) / "IMG_0001.dng") for folder in "ab"]
    with pytest.raises(KpnError, match="2 frames have that name"):
        reference.pick_reference("IMG_0001.dng", infos, [0.0, 0.0])
    assert reference.pick_reference("b/IMG_0001.dng", infos, [0.0, 0.0]) == 1


# --- bursts of several exposures --------------------------------------------


def _bracket(*stops: float) -> list[RawInfo]:
    return [
        replace(info, exposure_time=0.01 * 2**stop)
        for info, stop in zip(_frames(len(stops)), stops, strict=True)
    ]


def _picked(wanted: str, stops, clipped, sharp=None) -> int:
    infos = _bracket(*stops)
    return reference.pick_reference(wanted, infos, sharp or [1.0] * len(infos), clipped)


@pytest.mark.parametrize(
    ("stops", "clipped", "auto"),
    [
        ((0, -2, 2), (0.005, 0, 0.3), 0),  # the metered one is hardly clipped
        ((0, -2, 2), (0.05, 0.002, 0.3), 1),
        ((-2, 0, 2), (0.04, 0.1, 0.3), 0),  # all are clipped: the darkest
        ((0, -1, 1, -2, 2), (0.05, 0.009, 0.2, 0, 0.4), 1),  # the brightest that is hardly clipped
        ((-2, 0), (0, 0.005), 1),  # of two the brighter, unless it is clipped
        ((-2, 0), (0, 0.04), 0),
        ((0, 0.3, 0.3, 0.6), (0, 0, 0, 0), 1),
    ],
)
def test_the_reference_of_a_bracket_is_well_exposed_and_hardly_clipped(stops, clipped, auto):
    assert _picked("auto", stops, clipped) == auto


@pytest.mark.parametrize("blank", [(-6,), (6,), (-6, 6), (-6, -3), (3, 6)])
def test_frames_that_show_nothing_do_not_move_the_metered_exposure(blank):
    stops = [stop for stop in (0, -3, 3, -6, 6) if stop not in blank]
    infos = _bracket(*stops)
    picked = reference.pick_reference(
        "auto", infos, [1.0] * len(infos), [0.0] * len(infos), blank=_bracket(*blank)
    )
    assert stops[picked] == 0


def test_the_brightness_that_frames_show_counts_where_tags_do_not_tell():
    infos, equal = _frames(3), [1.0] * 3
    for wanted, index in (("auto", 2), ("darkest", 0)):
        picked = reference.pick_reference(
            wanted, infos, equal, [0.0, 0.3, 0.01], stops=[-2.0, 2.0, 0.0]
        )
        assert picked == index


def test_only_frames_of_one_exposure_are_compared_in_sharpness():
    stops = (-2, 0, 2) * 3
    sharp = [1.0, 2.0, 30.0, 1.0, 4.0, 20.0, 1.5, 3.0, 50.0]  # bright frames have more noise
    clipped = [0.0, 0.0, 0.2] * 3
    assert _picked("auto", stops, clipped, sharp) == 4
    assert _picked("darkest", stops, clipped, sharp) == 6


def test_the_middle_half_is_that_of_the_frames_of_one_exposure():
    stops = (0, 0, 0, 0, 2, 2, 2, 2)
    sharp = [9.0, 1.0, 2.0, 9.0, 9.0, 9.0, 9.0, 9.0]
    assert _picked("auto", stops, [0.0] * 4 + [0.5] * 4, sharp) == 2
    assert _picked("darkest", stops, [0.0] * 8, sharp) == 2


def test_a_compensating_iso_is_another_exposure_of_the_same_brightness():
    infos = _bracket(0, 0, 0)
    infos[1] = replace(infos[1], iso=3200.0, exposure_time=0.0025)
    assert reference.pick_reference("auto", infos, [1.0, 9.0, 2.0], [0.0] * 3) in (1, 2)
    assert reference.pick_reference("first", infos, [1.0, 9.0, 2.0], [0.0] * 3) == 0


def test_darkest_is_as_auto_in_bursts_of_one_exposure():
    infos, sharp = _frames(8), [9.0, 1.0, 2.0, 3.0, 5.0, 4.0, 9.0, 9.0]
    assert reference.pick_reference("darkest", infos, sharp) == 4


def test_a_long_burst_of_automatic_exposure_is_checked_quickly():
    infos = [replace(i, iso=800.0 + n / 10) for n, i in enumerate(_frames(3000))]
    reference.check_same_settings(infos)
