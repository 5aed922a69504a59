"""Files are grouped into bursts by tags, times and names."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.burst.grouping import group, stand_ins
from kpn_cli.raw.info import Capture

NOON = datetime(2026, 5, 6, 12, 0, 0)


def frame(name: str, at: float | None = 0.0, **changes) -> Capture:
    """A frame taken `at` seconds after noon; None for no time."""
    captured = None if at is None else NOON + timedelta(seconds=at)
    usual = Capture(
        path=Path("card") / name, make="Canikon", model="X1", serial="123", height=3000,
        width=4000, iso=800.0, exposure_time=0.01, f_number=2.8, captured=captured,
    )  # fmt: skip
    return replace(usual, **changes)


def names(captures, **how) -> list[list[str]]:
    return [[path.name for path in burst.files] for burst in group(captures, **how)]


def series(prefix: str, times, **changes) -> list[Capture]:
    return [frame(f"{prefix}{n}.dng", at, **changes) for n, at in enumerate(times)]


def test_a_pause_ends_a_burst():
    first, second = series("a", (0.1, 0.3, 0.5)), series("b", (3.0, 3.2))
    assert names([*second, *first]) == [["a0.dng", "a1.dng", "a2.dng"], ["b0.dng", "b1.dng"]]
    assert names([*second, *first], gap=2.6) == [[c.path.name for c in (*first, *second)]]
    assert names([*second, *first], gap=0.05) == [[c.path.name] for c in (*first, *second)]


def test_the_pause_counts_from_the_end_of_the_exposure():
    long = series("night", (0.5, 31.0, 61.4), exposure_time=30.0)
    assert len(group(long)) == 1
    assert len(group([replace(c, exposure_time=20.0) for c in long])) == 3


def test_whole_seconds_join_neighbouring_seconds_only():
    assert len(group(series("a", (0, 0, 0, 1, 1, 2)))) == 1
    assert names(series("a", (0, 0, 2, 2)), gap=0.2) == [["a0.dng", "a1.dng"], ["a2.dng", "a3.dng"]]
    # Fractions that are all 0 are not used; otherwise they give the pause.
    assert len(group(series("a", (0, 1, 2.25)), gap=0.3)) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"make": "Nikanon"},
        {"model": "X2"},
        {"serial": "124"},
        {"height": 3001},
        {"iso": 6400.0},
        {"exposure_time": 0.08},
        {"f_number": 8.0},
        {"path": Path("other") / "a1.dng"},
    ],
)
def test_frames_of_another_camera_folder_size_or_exposure_are_another_burst(change):
    frames = series("a", (0.1, 0.2, 0.3, 0.4))
    frames += [replace(c, **{"path": Path("card") / f"b{n}", **change}) for n, c in
               enumerate(series("b", (0.5, 0.6)))]  # fmt: skip
    if "path" in change:
        frames = [*frames[:4], replace(frames[4], path=Path("other/b0")), replace(
            frames[5], path=Path("other/b1"))]  # fmt: skip
    found = group(frames)
    assert sorted(len(burst.files) for burst in found) == [2, 4]
    assert not any(burst.left_out or burst.settings for burst in found)


@given(st.permutations(range(6)))
def test_the_order_of_the_arguments_does_not_matter(order):
    frames = [*series("a", (0.1, 0.2, 0.3)), *series("b", (9.1, 9.2, 9.3))]
    assert names([frames[n] for n in order]) == names(frames)


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.sampled_from([100.0, 800.0]), st.sampled_from("xy")),
        min_size=1,
        max_size=20,
    )
)
def test_every_file_is_in_exactly_one_group_of_equal_exposure(found):
    frames = [
        frame(f"{n}.dng", at, iso=iso, model=model) for n, (at, iso, model) in enumerate(found)
    ]
    groups = group(frames)
    assert sorted(path for g in groups for path in g.files) == sorted(f.path for f in frames)
    by_path = {f.path: f for f in frames}
    for burst in groups:
        if not burst.left_out:
            assert len({(by_path[p].iso, by_path[p].model) for p in burst.files}) == 1


# --- brackets ---------------------------------------------------------------


def test_a_bracket_is_left_out_with_its_exposures():
    frames = [
        frame(f"IMG_{n}.dng", 0.2 * n, exposure_time=time)
        for n, time in enumerate((0.01, 0.0025, 0.04))
    ]
    (found,) = group(frames)
    assert len(found.files) == 3
    for word in ("bracket", "1/100 s", "1/400 s", "1/25 s", "--exposures mixed"):
        assert word in found.left_out
    # The same one after the other by hand are single frames.
    assert len(group([replace(c, captured=NOON + timedelta(seconds=5.5 * n))
                      for n, c in enumerate(frames)])) == 3  # fmt: skip


def test_a_bracket_of_apertures_is_left_out_with_them():
    frames = [frame(f"{n}.dng", 0.2 * n, f_number=f) for n, f in enumerate((4.0, 2.8, 5.6))]
    (found,) = group(frames)
    assert "(1/100 s, f/4, ISO 800; 1/100 s, f/2.8, ISO 800; 1/100 s, f/5.6" in found.left_out


def test_two_frames_are_a_bracket_only_if_the_camera_says_so():
    pair = [frame("a.dng", 0.1), frame("b.dng", 0.3, exposure_time=0.04)]
    assert [(len(burst.files), burst.left_out) for burst in group(pair)] == [(1, ""), (1, "")]
    for near in (pair, [pair[0], replace(pair[1], exposure_time=0.0125)]):
        (found,) = group([replace(c, bracketed=True) for c in near])
        assert "a.dng, b.dng in card are an exposure bracket" in found.left_out


def test_a_bracket_of_flash_or_white_balance_is_a_burst():
    (found,) = group(series("a", (0.1, 0.2, 0.3), bracketed=True))
    assert not found.left_out


@pytest.mark.parametrize("stops", [(0, -2, 2), (-2, 0, 2), (0, -1, 1, 0, -1, 1), (0, 3, -3, 1)])
def test_with_mixed_exposures_a_bracket_is_one_burst(stops):
    frames = [frame(f"{n}.dng", 0.2 * n, exposure_time=0.01 * 2**ev) for n, ev in enumerate(stops)]
    assert group(frames)[0].left_out
    (found,) = group(frames, exposures="mixed")
    assert (len(found.files), found.left_out) == (len(stops), "")
    assert [each.stops for each in found.settings] == pytest.approx(stops)
    span = max(stops) - min(stops)
    assert found.why.endswith(f"different exposures over {span:.1f} EV")


def test_a_frame_without_time_among_others_has_no_ev():
    times = (None, 0.0025, 0.01, 0.04)
    frames = [frame(f"{n}.dng", 0.2 * n, exposure_time=time) for n, time in enumerate(times)]
    (found,) = group(frames, exposures="mixed")
    assert found.settings[0].stops is None
    assert [each.stops for each in found.settings[1:]] == pytest.approx([-2, 0, 2])


def test_with_mixed_exposures_bursts_of_equal_exposure_are_as_without():
    frames = [*series("a", (0.1, 0.3)), *series("b", (5.0, 5.2)), frame("c.dng", 9.5)]
    assert group(frames, exposures="mixed") == group(frames)


def test_frames_of_a_bracket_in_several_rounds_of_each_exposure_are_one_burst_if_mixed():
    stops = (-2, -2, 0, 0, 0, 2, 2, 2)
    frames = [frame(f"{n}.dng", 0.2 * n, exposure_time=0.01 * 2**ev) for n, ev in enumerate(stops)]
    assert [len(burst.files) for burst in group(frames)] == [2, 3, 3]
    assert {burst.why[-15:] for burst in group(frames)} == {", same exposure"}
    assert [len(burst.files) for burst in group(frames, exposures="mixed")] == [8]


def test_automatic_exposure_within_a_burst_is_merged():
    frames = [frame(f"{n}.dng", 0.2 * n, iso=100.0 + 10 * n) for n in range(4)]
    (found,) = group(frames)
    assert (len(found.files), found.left_out) == (4, "")
    assert found.why == "taken within 0.6 s, automatic exposure over 0.4 EV"
    assert [each.text for each in found.settings][:2] == [
        "1/100 s, f/2.8, ISO 100",
        "1/100 s, f/2.8, ISO 110",
    ]
    two = [*series("a", (0.1, 0.2, 0.3)), *series("b", (0.4, 0.5), exposure_time=0.005)]
    assert [len(burst.files) for burst in group(two)] == [5]


def test_automatic_iso_that_makes_up_for_the_time_is_merged():
    frames = [
        frame(f"{n}.dng", 0.2 * n, iso=200.0 * 2 ** (n % 2), exposure_time=0.01 / 2 ** (n % 2))
        for n in range(5)
    ]
    (found,) = group(frames)
    assert len(found.files) == 5
    assert [each.stops for each in found.settings] == pytest.approx([0] * 5)


@pytest.mark.parametrize("changes", [{"exposure_time": 0.08}, {"exposure_time": 0.08, "iso": 100}])
def test_settings_that_a_photographer_has_changed_are_another_burst(changes):
    frames = [*series("a", (0.1, 0.3)), *series("b", (0.9, 1.1), **changes)]
    assert names(frames) == [["a0.dng", "a1.dng"], ["b0.dng", "b1.dng"]]
    assert [burst.why for burst in group(frames)] == ["taken within 0.2 s, same exposure"] * 2


def test_automatic_exposure_is_cut_where_it_has_drifted_by_two_stops():
    times = [0.01 * 2 ** (0.3 * n) for n in range(12)]
    frames = [frame(f"{n}.dng", 0.2 * n, exposure_time=time) for n, time in enumerate(times)]
    assert [len(burst.files) for burst in group(frames)] == [8, 4]


@pytest.mark.parametrize(
    "times", [(60, 50, 60), (60, 50, 40), (60, 50, 60, 50), (60, 80, 50), (50, 60, 50, 60, 80)]
)
def test_jitter_of_automatic_exposure_by_a_step_is_no_bracket_unless_the_camera_says_so(times):
    frames = [frame(f"{n}.dng", 0.8 * n, exposure_time=1 / t) for n, t in enumerate(times)]
    (burst,) = group(frames)
    assert (len(burst.files), burst.left_out) == (len(times), "")
    (bracket,) = group([replace(c, bracketed=True) for c in frames])
    assert bracket.left_out


@pytest.mark.parametrize("value", [1e-320, 1e300])
def test_absurd_exposures_raise_nothing(value):
    frames = [
        frame(f"{n}.dng", 0.1 * n, exposure_time=value if n % 2 else 0.1, f_number=value)
        for n in range(4)
    ]
    group(frames)


# --- burst tags and names -------------------------------------------------------


def test_a_burst_id_takes_precedence_over_time():
    frames = [
        *series("a", (0.1, 5.0), burst_id="one"),
        *series("b", (5.1, 5.2), burst_id="two"),
        *series("c", (5.3, 5.4)),
    ]
    assert [len(burst.files) for burst in group(frames)] == [2, 2, 2]


def test_a_number_that_restarts_begins_a_burst():
    frames = [
        replace(c, number=n)
        for c, n in zip(series("a", (0.1, 0.2, 0.3, 0.4)), (1, 3, 1, 2), strict=True)
    ]
    assert [len(burst.files) for burst in group(frames)] == [2, 2]


@pytest.mark.parametrize(
    "files",
    [
        ["payload_N000.dng", "payload_N001.dng", "payload_N002.dng"],
        ["IMG_20200102_030405_BURST001_COVER.dng", "IMG_20200102_030405_BURST002.dng"],
        ["00000IMG_00000_BURST20200102030405123_COVER.dng",
         "00001IMG_00001_BURST20200102030405123.dng"],
        ["frame_9.dng", "frame_10.dng"],
        ["a (1).dng", "a (2).dng", "a (3).dng"],
        ["Night sky (9).dng", "Night sky (10).dng"],
        ["a [1].dng", "a [2].dng"],
    ],
)  # fmt: skip
def test_successive_names_are_a_burst_where_nothing_else_is_known(files):
    (found,) = group([frame(name, None) for name in reversed(files)])
    assert [path.name for path in found.files] == files


@pytest.mark.parametrize(
    "files",
    [
        ["payload_N000.dng", "payload_N002.dng"],
        ["IMG_20200102_030405_BURST001.dng", "IMG_20200102_030409_BURST001.dng"],
        ["portrait.dng", "landscape.dng"],
        ["a1.dng", "b2.dng"],
        ["hol_burst1_0001.dng", "hol_burst2_0001.dng"],
        ["Sunburst1.dng", "Sunburst3.dng"],
        ["a (1).dng", "b (2).dng"],
        ["a (1).dng", "a (3).dng"],
        ["a (1).dng", "a (2].dng"],
        ["a (one).dng", "a ().dng"],
    ],
)
def test_names_without_successive_numbers_are_single_frames(files):
    assert [len(burst.files) for burst in group([frame(name, None) for name in files])] == [1, 1]


def test_a_given_size_overrides_everything_except_camera_and_folder():
    frames = [frame(f"{n}.dng", 10.0 * n, iso=100.0 * (n + 1)) for n in range(5)]
    assert [len(burst.files) for burst in group(frames, size=2)] == [2, 2, 1]


def test_every_group_has_its_reason():
    frames = [
        *series("a", (0.1, 0.4)),
        frame("b.dng", 9.5),
        *(frame(f"p{n}.dng", None) for n in (1, 2)),
    ]
    assert sorted(burst.why for burst in group(frames)) == [
        "a single frame",
        "successive numbers in names, no times",
        "taken within 0.3 s",
    ]


# --- exposures as cameras write them ----------------------------------------


def test_the_jitter_of_a_phone_s_clock_splits_no_burst():
    clock = (16665000, 16665973, 16664027, 16665000, 16665973, 16664027)
    frames = [
        frame(f"{n}.dng", 0.05 * n, exposure_time=ns * 1e-9, f_number=1.8 if n % 2 else 1.799)
        for n, ns in enumerate(clock)
    ]
    (burst,) = group(frames)
    assert len(burst.files) == 6
    assert not burst.left_out
    assert burst.settings == ()


def test_a_bracket_s_message_names_its_files_and_their_folder():
    times = (1 / 60, 1 / 45, 1 / 90)  # half an EV to either side, as it is rounded in tags
    (bracket,) = group([frame(f"{n}.dng", 0.1 * n, exposure_time=t) for n, t in enumerate(times)])
    assert bracket.left_out.startswith("0.dng, 1.dng, 2.dng in card are an exposure bracket")
    long = [frame(f"{n}.dng", 0.1 * n, iso=100.0 * 2 ** (n % 3)) for n in range(12)]
    assert "8.dng, 3 more in card are" in group(long)[0].left_out


def test_a_copy_with_the_number_of_its_original_does_not_end_a_burst():
    numbered = [frame(f"{n}.dng", 0.1 * n, number=n + 1) for n in range(3)]
    copy = replace(numbered[1], path=Path("card") / "1 edited.dng")
    (burst,) = group([*numbered, copy])
    assert len(burst.files) == 4
    other = frame("again.dng", 0.15, number=2)  # the same number at another time: another burst
    assert len(group([*numbered[:2], other])) == 2


def test_damaged_files_stand_where_their_numbers_say():
    times = {1: 0.0, 2: 1.0, 5: 4.0, 9: 8.0}
    captures = [frame(f"IMG_{n}.dng", at) for n, at in times.items()]
    unread = ("IMG_4.dng", "IMG_3.dng", "IMG_0.dng", "IMG_7.dng", "IMG_1x.dng", "IMG_3.raw")
    stands = stand_ins(captures, [Path("card") / name for name in unread])
    assert {each.path.name: each.captured for each in stands} == {
        "IMG_0.dng": captures[0].captured,
        "IMG_3.dng": captures[1].captured,
        "IMG_4.dng": captures[1].captured,
    }
    found = [[name[4] for name in burst] for burst in names([*captures, *stands], size=3)]
    assert found == [["0", "1", "2"], ["3", "4", "5"], ["9"]]
