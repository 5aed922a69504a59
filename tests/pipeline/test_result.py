"""What a burst's result says about its frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpn_cli.cli import documents
from kpn_cli.pipeline.result import Failure, Result, burst_in_words

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


def test_a_fallback_says_whether_it_is_bad_and_what_to_do():
    burst = Result(FRAMES[0], FRAMES, {}, fallback_share=0.37)
    ((kind, line),) = burst.remarks()
    assert kind == "note"
    assert line.startswith("fell back to the reference in 37% of the picture")
    assert "no error" in line
    assert "kpn inspect" in line
    assert Result(FRAMES[0], FRAMES, {}, fallback_share=0.01).remarks() == []


def test_the_fallback_of_a_single_frame_speaks_of_no_other_frames():
    ((_, line),) = Result(FRAMES[0], FRAMES[:1], {}, fallback_share=0.37).remarks()
    assert "fine detail" in line
    assert not any(word in line for word in ("merging", "moves", "--reference"))


def test_the_failure_of_a_burst_names_its_files_and_folder():
    files = tuple(Path(f"/card/IMG_{n}.dng") for n in range(1, 9))
    assert Failure(files, "--reference x: no such frame").message() == (
        "IMG_1.dng to IMG_8.dng (8 frames) in /card: --reference x: no such frame"
    )
    assert burst_in_words(files[:2]) == "IMG_1.dng, IMG_2.dng in /card"
    assert burst_in_words([files[0], Path("/b/x.dng")]) == "/card/IMG_1.dng, /b/x.dng"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("IMG_1.dng: the file is empty; copy it again.", "/card/IMG_1.dng: the file is empty; "),
        ("/card/IMG_1.dng: cannot be read; check it", "/card/IMG_1.dng: cannot be read"),
        ("out/IMG_1_kpn.dng: exists", "/card/IMG_1.dng: out/IMG_1_kpn.dng: exists"),
    ],
)
def test_the_failure_of_a_file_names_it_with_its_folder_once(error, message):
    assert Failure((Path("/card/IMG_1.dng"),), error).message().startswith(message)
