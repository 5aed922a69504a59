"""Exposures are the same but for rounding, others, or the frames decide."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.raw import exposure
from kpn_cli.raw.exposure import Match, match


@dataclass(frozen=True)
class Shot:
    iso: float | None = 800.0
    exposure_time: float | None = 0.01
    f_number: float | None = 2.8


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Shot(exposure_time=16665000e-9), Shot(exposure_time=16665973e-9)),
        (Shot(exposure_time=16665973e-9), Shot(exposure_time=16664027e-9)),
        (Shot(exposure_time=1 / 60), Shot(exposure_time=16667 / 1000000)),
        (Shot(f_number=1.8), Shot(f_number=float(Fraction(1799, 1000)))),
        (Shot(iso=801.0), Shot(iso=803.0)),
        (Shot(None, None, None), Shot(None, None, None)),
        (Shot(iso=100), Shot(iso=100 * 2**0.049)),
    ],
)
def test_rounding_and_the_jitter_of_clocks_are_the_same_exposure(one, other):
    assert match(one, other) is match(other, one) is Match.SAME


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Shot(exposure_time=1 / 60), Shot(exposure_time=1 / 50)),
        (Shot(iso=800.0), Shot(iso=1000.0)),
        (Shot(f_number=2.8), Shot(f_number=3.2)),
        # As bright, but of another noise.
        (Shot(iso=800.0, exposure_time=1 / 60), Shot(iso=1600.0, exposure_time=1 / 120)),
        # Each is small, together they are not.
        (Shot(100.0, 0.01, 2.8), Shot(110.0, 0.011, 2.8)),
    ],
)
def test_a_third_of_a_stop_is_another_exposure_alone_or_together(one, other):
    assert match(one, other) is match(other, one) is Match.ANOTHER
    assert not exposure.may_be_one_burst(one, other)


def test_between_rounding_and_a_camera_s_smallest_step_the_tags_do_not_tell():
    assert match(Shot(iso=800.0), Shot(iso=900.0)) is Match.UNDECIDED
    assert match(Shot(iso=800.0), Shot(iso=800 * 2**0.051)) is Match.UNDECIDED
    # Each within the tolerance, but not together.
    assert match(Shot(100.0, 0.01), Shot(103.0, 0.0103)) is Match.UNDECIDED


def test_a_chain_of_small_steps_is_cut_a_quarter_of_a_stop_from_its_first_frame():
    chain = [Shot(iso=100 * 2 ** (0.04 * n)) for n in range(20)]
    assert [len(run) for run in exposure.split(chain)] == [7, 7, 6]


def test_the_setting_that_differs_most_is_named():
    def named(other):
        name, read = exposure.largest_step(Shot(100.0, 0.01, 2.8), other)
        return name, read(other)

    assert named(Shot(100.0, 0.02, 2.8)) == ("exposure time", 0.02)
    assert named(Shot(100.0, 0.02, None)) == ("exposure time", 0.02)
    assert named(Shot(110.0, 0.0111, 2.8)) == ("exposure", "1/90 s, f/2.8, ISO 110")


def test_an_exposure_is_shown_with_its_aperture_and_without_what_is_unknown():
    assert exposure.show(Shot(800.0, 1 / 60, 1.8)) == "1/60 s, f/1.8, ISO 800"
    assert exposure.show(Shot(None, 2.0, None)) == "2 s"
    assert exposure.show(Shot(100.0, None, 4.0)) == "unknown time, f/4, ISO 100"


def test_a_setting_that_only_one_frame_states_is_undecided_unless_another_one_differs():
    for other in (Shot(iso=None), Shot(f_number=None), Shot(None, None, None)):
        assert match(Shot(), other) is match(other, Shot()) is Match.UNDECIDED
    assert match(Shot(), Shot(None, 0.02, 2.8)) is Match.ANOTHER
    assert exposure.brighter_by(Shot(), Shot(iso=None)) == 0


def test_a_frame_that_states_no_setting_does_not_join_two_exposures():
    bare, one, other = Shot(iso=None), Shot(iso=100.0), Shot(iso=800.0)
    assert exposure.split([one, bare, one]) == [[one, bare, one]]
    assert exposure.split([bare, one, other]) == [[bare, one], [other]]
    assert exposure.split([one, bare, other, one]) == [[one, bare], [other], [one]]


SHOTS = st.builds(
    Shot,
    st.sampled_from([None, 100.0, 110.0, 125.0, 200.0]),
    st.sampled_from([None, 0.01, 0.0105, 0.0115, 0.02]),
    st.sampled_from([None, 2.8, 2.9, 4.0]),
)


@given(st.lists(SHOTS, min_size=1, max_size=6))
def test_frames_are_mixed_where_any_two_of_them_differ(shots):
    pairs = [match(one, other) is Match.ANOTHER for one in shots for other in shots]
    assert exposure.are_mixed(shots) == any(pairs)


def test_stops_are_counted_from_the_middle_exposure():
    shots = [Shot(exposure_time=0.01 * 2**n) for n in (0, -2, 2, 0)]
    assert exposure.stops(shots) == pytest.approx([0, -2, 2, 0])
    assert exposure.stops(shots[1:3]) == pytest.approx([0, 4])


def test_times_and_stops_are_shown_as_cameras_do():
    assert [exposure.show_time(t) for t in (0.01666, 0.3, 0.4, 1 / 1.5, 30.0)] == [
        "1/60 s",
        "1/3 s",
        "0.4 s",
        "0.7 s",
        "30 s",
    ]
    assert [exposure.show_stops(s) for s in (2, -0.333, 0.04, -0.04)] == [
        "+2.0 EV",
        "-0.3 EV",
        "0 EV",
        "0 EV",
    ]


def test_apertures_and_isos_are_shown_as_cameras_do():
    apertures = [exposure.show_aperture(f) for f in (1.7999999523, 1.78, 5.6, 11.0)]
    assert apertures == ["f/1.8", "f/1.78", "f/5.6", "f/11"]
    assert [exposure.show_iso(iso) for iso in (800.0, 3280000.0)] == ["ISO 800", "ISO 3280000"]
    assert exposure.show(Shot(iso=3280000.0, exposure_time=0.016666, f_number=1.7999)) == (
        "1/60 s, f/1.8, ISO 3280000"
    )
