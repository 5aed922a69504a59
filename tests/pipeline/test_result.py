"""What a burst's result says about its frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpn_cli.cli import documents
from kpn_cli.pipeline.result import Result

FRAMES = [Path(f"{n}.dng") for n in range(4)]
LONG, SHORT = "1/25 s, f/2.8, ISO 100", "1/400 s, f/2.8, ISO 100"


def bracket() -> Result:
    return Result(
        FRAMES[0],
        FRAMES,
        {},
        exposure=[1.0, 3.9, 0.25, 4.1],
        settings=["1/100 s, f/2.8, ISO 100", LONG, SHORT, LONG],
    )


def test_the_exposures_of_a_bracket_are_shown_with_their_frames():
    assert bracket().remarks() == [
        ("exposure", "1/100 s, f/2.8, ISO 100 (0 EV): 0.dng"),
        ("exposure", "1/25 s, f/2.8, ISO 100 (+2.0 EV): 1.dng, 3.dng"),
        ("exposure", "1/400 s, f/2.8, ISO 100 (-2.0 EV): 2.dng"),
    ]


def test_flicker_within_one_exposure_is_shown_as_before():
    burst = Result(FRAMES[0], FRAMES[:2], {}, exposure=[1.0, 1.1])
    assert burst.remarks() == [("note", "1.dng is 1.100 times as bright as the reference; matched")]


def test_the_json_of_a_bracket_has_settings_and_ev_of_each_frame():
    shown = documents.burst_json(bracket())["exposures"]
    assert [each["settings"] for each in shown[1:3]] == [LONG, SHORT]
    assert [each["ev"] for each in shown] == pytest.approx([0, 1.96, -2, 2.04])
    assert documents.burst_json(Result(FRAMES[0], FRAMES, {}, exposure=[1.0]))["exposures"] == []


def test_a_black_frame_has_an_ev():
    assert Result(FRAMES[0], FRAMES[:1], {}, exposure=[0.0]).stops[0] < -10
