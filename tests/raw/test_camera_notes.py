"""The tags of exifread are turned into ISO, gain, drive mode and lens; nonsense is told."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from dng_factory import write_dng
from dng_mosaics import noise_mosaic
from hypothesis import given, settings
from hypothesis import strategies as st

from kpn_cli.raw.camera_notes import NAMES, CameraNotes, interpret, lacks_iso, with_camera_notes
from kpn_cli.raw.reader import read_info


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    """A file without an ISO."""
    return read_info(write_dng(tmp_path_factory.mktemp("notes") / "a.dng", noise_mosaic()))


# --- ISO ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "iso", "source"),
    [
        # Nikon: 1/12 EV; what was set is less exact.
        ({"MakerNote ISOInfo": (180.0, 1.0), "MakerNote ISOSetting": (0.0, 100.0)}, 102400,
         "MakerNote ISOInfo"),
        ({"MakerNote ISOSetting": (0.0, 200.0)}, 200, "MakerNote ISOSetting"),
        # Canon: base 1/32 EV, times AutoISO / 100; 65504 is -32, half.
        ({"MakerNote BaseISO": (224.0,), "MakerNote AutoISO": (0.0,)}, 400, "MakerNote BaseISO"),
        ({"MakerNote BaseISO": (224.0,), "MakerNote AutoISO": (65504.0,)}, 200,
         "MakerNote BaseISO"),
        ({"MakerNote BaseISO": (224.0,)}, 400, "MakerNote BaseISO"),
        ({"MakerNote ISO": "400"}, 400, "MakerNote ISO"),
        ({"MakerNote ISOValue": (6.0,)}, 200, "MakerNote ISOValue"),  # Olympus
        ({"Image Tag 0x0017": (80.0,)}, 80, "Image Tag 0x0017"),  # Panasonic
    ],
)  # fmt: skip
def test_the_iso_of_each_maker_is_decoded(tags, iso, source):
    notes = interpret(tags)
    assert (notes.iso, notes.iso_source, notes.iso_notes) == (iso, source, ())


@pytest.mark.parametrize(
    "tags",
    [
        {"MakerNote ISOSetting": (0.0, 0.0)},
        {"MakerNote ISOSetting": (0.0, -200.0)},
        {"MakerNote ISOSetting": (0.0, 4294967295.0)},
        {"MakerNote ISOSetting": (0.0, math.nan)},
        {"MakerNote ISOSetting": (100.0,)},
        {"MakerNote ISOSetting": "high"},
        {"MakerNote ISOInfo": (0.0,)},
        {"MakerNote ISOValue": (1e6,)},
        {"MakerNote ISOValue": (math.inf,)},
        {"MakerNote BaseISO": (32767.0,), "MakerNote AutoISO": (32767.0,)},
    ],
)
def test_an_absurd_iso_is_ignored_with_a_line(tags):
    notes = interpret(tags)
    assert notes.iso is None
    (line,) = notes.iso_notes
    assert next(iter(tags)) in line and "ignored" in line


def test_the_next_tag_is_used_where_one_is_absurd():
    notes = interpret({"MakerNote ISOInfo": (0.0,), "MakerNote ISOSetting": (0.0, 800.0)})
    assert (notes.iso, notes.iso_source, len(notes.iso_notes)) == (800, "MakerNote ISOSetting", 1)


@pytest.mark.parametrize("text", ["", "Unknown", "Auto", "See ISOSpeedRatings Tag"])
def test_texts_that_refer_to_the_standard_tag_are_no_fault(text):
    assert interpret({"MakerNote ISO": text}) == CameraNotes()


MAKER = CameraNotes(iso=800, iso_source="MakerNote ISOInfo", iso_notes=("odd ISO",))


def test_the_makers_iso_is_used_where_no_standard_tag_has_one(info):
    found = with_camera_notes(info, MAKER)
    assert (found.iso, found.iso_source) == (800, "MakerNote ISOInfo")
    assert found.notes == (
        "odd ISO",
        "ISO 800 is taken from MakerNote ISOInfo: no standard tag states it",
    )
    assert not lacks_iso(found)


def test_a_standard_tag_takes_precedence_and_nothing_is_told(info):
    stated = replace(info, iso=100.0, iso_source="ISOSpeed")
    assert with_camera_notes(stated, MAKER) == stated


def test_libraws_iso_is_kept_where_it_is_another(info):
    of_libraw = replace(info, iso=100.0, iso_source="LibRaw")
    found = with_camera_notes(of_libraw, replace(MAKER, iso_notes=()))
    assert (found.iso, found.iso_source) == (100, "LibRaw")
    (line,) = found.notes
    assert "ISO 800" in line and "LibRaw reads 100" in line
    same = with_camera_notes(of_libraw, replace(MAKER, iso=101.0, iso_notes=()))
    assert (same.iso, same.iso_source) == (100, "MakerNote ISOInfo")


def test_a_makers_iso_below_an_overflowed_tag_contradicts_it(info):
    overflowed = replace(info, iso=65535.0, iso_source="PhotographicSensitivity")
    assert lacks_iso(overflowed)
    found = with_camera_notes(overflowed, replace(MAKER, iso_notes=()))
    assert found.iso == 65535 and "ignored" in found.notes[0]
    found = with_camera_notes(overflowed, replace(MAKER, iso=102400.0, iso_notes=()))
    assert (found.iso, found.iso_source) == (102400, "MakerNote ISOInfo")
    assert "65535 or more" in found.notes[0]


def test_without_a_makers_iso_the_file_says_what_it_said(info):
    assert with_camera_notes(info, CameraNotes()) == info


# --- gain, drive mode, lens -----------------------------------------------------------


def test_gain_control_is_told_in_words():
    assert interpret({"EXIF GainControl": (2.0,)}).gain == "high gain up"
    assert interpret({"EXIF GainControl": (0.0,)}).gain == "none"


@pytest.mark.parametrize("value", [(77.0,), (math.nan,), "high"])
def test_an_undefined_gain_control_is_ignored_with_a_line(value):
    notes = interpret({"EXIF GainControl": value})
    assert notes.gain == "" and "GainControl" in notes.notes[0]


@pytest.mark.parametrize(
    ("tags", "mode"),
    [
        ({}, ""),
        ({"EXIF ExposureMode": (2.0,), "MakerNote BracketingMode": (1.0,)}, "bracketing"),
        ({"EXIF ExposureMode": (0.0,)}, ""),
        ({"MakerNote ContinuousDriveMode": "Continuous"}, "continuous"),
        ({"MakerNote ContinuousDriveMode": "Single Or Timer"}, "single"),
        ({"MakerNote ContinuousDriveMode": "Unknown"}, ""),
        ({"MakerNote ContinuousDriveMode": "Continuous",
          "MakerNote AutoExposureBracketing": "On (shot 2)"}, "bracketing"),
        ({"MakerNote ContinuousDriveMode": "Continuous",
          "MakerNote AutoExposureBracketing": "Off", "MakerNote BracketMode": "Off"},
         "continuous"),
        ({"MakerNote BracketingMode": (0x20,)}, "single"),  # Nikon: bit 5 is automatic ISO
        ({"MakerNote BracketingMode": (0x21,)}, "continuous"),
        ({"MakerNote BracketingMode": (0x11,)}, "bracketing"),
        ({"MakerNote ReleaseMode": (2.0,)}, "continuous"),  # Sony
        ({"MakerNote ReleaseMode": (65535.0,)}, ""),
        ({"MakerNote SpecialMode": (0.0, 0.0, 0.0)}, "single"),  # Olympus
        ({"MakerNote MotorOrBracket": (1.0,)}, "continuous or bracketing"),  # Fujifilm
    ],
)  # fmt: skip
def test_the_drive_mode_is_found_in_the_tags_of_each_maker(tags, mode):
    notes = interpret(tags)
    assert (notes.drive_mode, notes.notes) == (mode, ())


@pytest.mark.parametrize("bits", [(-1.0,), (math.nan,), (1e20,), "fast"])
def test_a_drive_mode_that_is_no_set_of_bits_is_ignored_with_a_line(bits):
    notes = interpret({"MakerNote BracketingMode": bits})
    assert notes.drive_mode == "" and "BracketingMode" in notes.notes[0]


@pytest.mark.parametrize(
    ("tags", "lens"),
    [
        ({"EXIF LensModel": "NIKKOR Z 50mm f/1.8 S ", "MakerNote LensType": (6.0,)},
         "NIKKOR Z 50mm f/1.8 S"),
        ({"EXIF LensModel": "----", "MakerNote LensModel": "EF50mm f/1.8 II"}, "EF50mm f/1.8 II"),
        ({"MakerNote LensType": "Canon EF 35mm f/2"}, "Canon EF 35mm f/2"),
        ({"MakerNote LensType": (6.0,),
          "MakerNote LensMinMaxFocalMaxAperture": (18.0, 70.0, 3.5, 4.5)}, "18-70 mm f/3.5-4.5"),
        ({"EXIF LensSpecification": (50.0, 50.0, 1.4, 1.4)}, "50 mm f/1.4"),
        ({"Image Tag 0xC630": (1200.0, 1200.0, math.nan, math.nan)}, "1200 mm"),
        *(({"EXIF LensModel": text}, "") for text in ("", "N/A", "0.0 mm f/0.0", "-- mm f/--")),
        ({"EXIF LensSpecification": (0.0, 0.0, math.nan, math.nan)}, ""),
    ],
)  # fmt: skip
def test_the_lens_is_its_name_or_its_range(tags, lens):
    notes = interpret(tags)
    assert (notes.lens, notes.notes) == (lens, ())


@pytest.mark.parametrize(
    "tags",
    [
        {"EXIF LensModel": "Lens " * 100},
        {"EXIF LensModel": "Lens \x1b[31m"},
        {"EXIF LensSpecification": (70.0, 18.0, 3.5, 4.5)},
        {"EXIF LensSpecification": (18.0, 70.0)},
        {"EXIF LensSpecification": (18.0, math.inf, 3.5, 4.5)},
    ],
)
def test_a_text_or_range_of_no_lens_is_ignored_with_a_line(tags):
    notes = interpret(tags)
    assert notes.lens == "" and "Lens" in notes.notes[0]


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.sampled_from(sorted(NAMES)),
        st.one_of(st.text(max_size=20), st.lists(st.floats(), max_size=5).map(tuple)),
    )
)
def test_any_values_give_facts_that_make_sense(tags):
    notes = interpret(tags)
    assert notes.iso is None or 1 <= notes.iso <= 1e7
    assert bool(notes.iso) == bool(notes.iso_source)
    assert all("\n" not in line for line in (*notes.notes, *notes.iso_notes, notes.lens))
