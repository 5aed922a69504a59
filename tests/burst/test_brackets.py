"""Brackets are told from automatic exposure by the sequence of the exposures."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.burst import brackets
from kpn_cli.raw import exposure


@dataclass(frozen=True)
class Shot:
    exposure_time: float | None = 0.01
    iso: float | None = 800.0
    f_number: float | None = 2.8


def shots(*stops: float) -> list[Shot]:
    return [Shot(0.01 * 2**stop) for stop in stops]


@pytest.mark.parametrize("step", [0.5, 2 / 3, 1, 2, 3])
@pytest.mark.parametrize("length", [3, 5, 7, 9])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_evenly_spaced_exposures_are_a_bracket_in_any_order_and_number_of_rounds(
    step, length, rounds
):
    rising = [step * (n - length // 2) for n in range(length)]
    from_the_middle = sorted(rising, key=abs)
    for order in (rising, from_the_middle, rising[::-1]):
        assert brackets.is_bracket(shots(*order * rounds))
        assert brackets.is_bracket(shots(*order, *order[:1]))  # the next round was cut short


def test_tags_round_the_steps_of_a_bracket():
    assert brackets.is_bracket([Shot(1 / 15), Shot(1 / 8), Shot(1 / 30)])
    assert brackets.is_bracket([Shot(f_number=f) for f in (11, 16, 8)])
    assert brackets.is_bracket([Shot(1 / 60), Shot(1 / 45), Shot(1 / 90)])


@pytest.mark.parametrize(
    "stops",
    [
        (0, 0.33, -0.33),  # a bracket of thirds is as good as a burst
        (0, 0.3, 0.6, 0.9),
        (0, 1, 0, 1),
        (0, 0.4, 0.9, 1.0, 0.3),
        (0, 0, 2, 2, -2, -2),
        (0, 2),
        (0,),
        (),
    ],
)
def test_uneven_small_steps_and_repeated_exposures_are_no_bracket(stops):
    assert not brackets.is_bracket(shots(*stops))


def test_settings_that_make_up_for_each_other_are_no_bracket():
    assert not brackets.is_bracket([Shot(0.01 * 4**n, 800.0 / 4**n) for n in range(3)])


def test_a_frame_that_states_nothing_hides_no_bracket_behind_it():
    bare = Shot(None, None, None)
    assert brackets.is_bracket([bare, *shots(0, -2), bare, *shots(2)])


@given(st.lists(st.floats(-5, 5), max_size=12))
def test_a_sequence_is_cut_only_where_its_exposure_jumps_or_has_drifted(stops):
    runs = brackets.split_where_set_anew(shots(*stops))
    assert [shot for run in runs for shot in run] == shots(*stops)
    for run in runs:
        assert all(exposure.difference(run[0], shot) <= 2.1 for shot in run)
        assert all(exposure.difference(a, b) <= 1.1 for a, b in pairwise(run))


def test_a_frame_that_states_no_setting_does_not_join_two_exposures():
    bare, one, other = Shot(iso=None), Shot(iso=100.0), Shot(iso=800.0)
    split = brackets.split_where_set_anew
    assert split([one, bare, one]) == [[one, bare, one]]
    assert split([bare, one, other]) == [[bare, one], [other]]
    assert split([one, bare, other, one]) == [[one, bare], [other], [one]]
