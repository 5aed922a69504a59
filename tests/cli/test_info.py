"""`kpn info` shows the facts of raw files and continues after bad files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from command_line import kpn
from maker_notes import dng_with_note, nikon_note
from marked_bursts import LIST, PLACES, marked_burst

from kpn_cli.output import dng_tags, dng_writer
from kpn_cli.raw.reader import read_info, read_mosaic


def test_info_shows_camera_levels_and_noise(burst):
    frames, _ = burst
    document = json.loads(kpn("info", frames[0], "--json").stdout)
    (row,) = document["files"]
    assert (row["cfa"], row["white"], row["iso"]) == ("GRBG", 16383, 3450)
    assert row["noise"]["source"] == "profile"
    table = kpn("info", frames[0]).stdout
    for text in ("GRBG", "1/30 s", "from the NoiseProfile", "focal length", "unknown"):
        assert text in table


def test_info_shows_the_noise_that_denoise_would_use(burst, tmp_path, weights):
    """It is measured if the pixels are noisier than the file's ISO suggests."""
    info = read_info(burst[0][0])
    bare = tmp_path / "bare.dng"
    tags = replace(dng_tags.tags_of(info), noise=None, iso=100)
    dng_writer.write_cfa_dng(bare, read_mosaic(info), tags)
    (row,) = json.loads(kpn("info", bare, "--json").stdout)["files"]
    done = kpn("denoise", bare, "-o", tmp_path / "o", "--weights", weights, "--json",
               "--format", "dng")  # fmt: skip
    (result,) = json.loads(done.stdout)["bursts"]
    assert row["noise"] == result["noise"]
    assert row["noise"]["source"] == "measured"
    assert "measured from the frames" in kpn("info", bare).stdout


def test_info_continues_after_a_bad_file(burst, tmp_path):
    bad = tmp_path / "bad.dng"
    bad.write_bytes(b"II*\0")
    result = kpn("info", bad, burst[0][0])
    assert result.exit_code == 1
    assert "bad.dng" in result.stderr
    assert "GRBG" in result.stdout


def test_info_shows_what_the_makers_notes_add_and_which_tag_it_believed(tmp_path):
    exif = {34855: (3, (65535,)), 41991: (3, (2,))}
    path = dng_with_note(tmp_path / "a.dng", "NIKON CORPORATION", nikon_note(), exif)
    (row,) = json.loads(kpn("info", path, "--json").stdout)["files"]
    assert (row["iso"], row["iso_source"]) == (102400, "MakerNote ISOInfo")
    assert (row["gain"], row["drive_mode"]) == ("high gain up", "continuous")
    assert row["lens"] == "18-70 mm f/3.5-4.5"
    assert "ISO 102400 is taken from MakerNote ISOInfo" in row["notes"][0]
    table = kpn("info", path).stdout
    for text in ("102400 (MakerNote ISOInfo)", "high gain up", "continuous", "18-70 mm f/3.5-4.5"):
        assert text in table


def test_info_names_the_standard_tag(burst):
    (row,) = json.loads(kpn("info", burst[0][0], "--json").stdout)["files"]
    assert (row["iso_source"], row["drive_mode"], row["lens"]) == (
        "PhotographicSensitivity",
        "",
        "",
    )
    assert "3450 (PhotographicSensitivity)" in kpn("info", burst[0][0]).stdout


def test_info_shows_the_defective_pixels(burst, tmp_path):
    (path,) = marked_burst(tmp_path / "in", LIST, frames=1)
    marked, clean = json.loads(kpn("info", path, burst[0][0], "--json").stdout)["files"]
    assert marked["defects"]["marked"] == len(PLACES)
    assert clean["defects"] == dict.fromkeys(["marked", "listed", "found", "columns", "rows"], 0)
    assert f"{len(PLACES)} pixels ({len(PLACES)} marked by the file)" in kpn("info", path).stdout
    assert "none" in kpn("info", burst[0][0]).stdout.partition("defects")[2].splitlines()[0]


def test_info_shows_the_facts_of_a_blank_picture(burst, tmp_path):
    info = read_info(burst[0][0])
    blank = tmp_path / "blank.dng"
    mosaic = np.full((info.height, info.width), 4096, np.uint16)
    tags = dng_tags.tags_of(info, noise=info.noise_profile)
    dng_writer.write_cfa_dng(blank, mosaic, tags)
    (row,) = json.loads(kpn("info", blank, "--json").stdout)["files"]
    assert (row["cfa"], row["noise"]["source"], row["defects"]) == ("GRBG", "profile", None)
    table = kpn("info", blank).stdout
    assert "cannot be determined" in table.partition("defects")[2].splitlines()[0]
