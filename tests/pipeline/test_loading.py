"""Copies of a frame are left out, and a burst that does not fit into memory is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from cards import denoised, write_bursts

from kpn_cli.errors import KpnError
from kpn_cli.pipeline import denoise, loading
from kpn_cli.pipeline.fingerprint import options_digest
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.camera_notes import CameraNotes


def test_a_burst_larger_than_the_memory_is_refused_before_it_is_read(
    tmp_path, weights, monkeypatch
):
    write_bursts(tmp_path / "card", 1, frames=9)
    monkeypatch.setattr(loading, "free_memory", lambda device: 9000)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    with pytest.raises(KpnError, match=r"its 9 frames need .* --burst-size"):
        denoise.denoise([tmp_path / "card"], options)


def test_a_copy_of_a_frame_is_left_out(tmp_path, weights):
    write_bursts(tmp_path / "a", 1, frames=3)
    shutil.copy(tmp_path / "a" / "IMG_0000.dng", tmp_path / "a" / "IMG_0000 copy.dng")
    (done,) = denoised(
        tmp_path / "a", "-o", tmp_path / "out", "--weights", weights, "--format", "dng"
    )["bursts"]
    assert len(done["frames"]) == 3
    (why,) = done["dropped"].values()
    assert why.startswith("a copy of IMG_0000")


# --- the maker's notes ----------------------------------------------------------------

NOTES = CameraNotes(iso=102400, iso_source="MakerNote ISOInfo", lens="Lens 1")


def loaded(tmp_path, weights, stated, notes_of=lambda path: NOTES):
    """Load three frames with the ISO that the function `stated` makes of each; and who was read."""
    write_bursts(tmp_path / "a", 1, frames=3)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    asked = []

    def read(path):
        info, planes = loading.read_packed(path)
        return replace(info, **stated(path)), planes

    def read_notes(path):
        asked.append(path.name)
        return notes_of(path)

    files = sorted((tmp_path / "a").iterdir())
    burst = loading.load_burst(
        files, options, options_digest(options), read=read, read_notes=read_notes
    )
    return burst, asked


def test_notes_are_read_once_a_burst(tmp_path, weights):
    burst, asked = loaded(tmp_path, weights, lambda path: {})
    assert asked == [burst.infos[0].path.name]
    assert [info.lens for info in burst.infos] == ["Lens 1", "", ""]
    assert len({info.iso for info in burst.infos}) == 1  # the standard tag's


@pytest.mark.parametrize(
    "missing",
    [
        {"iso": None, "iso_source": ""},
        {"iso": 65535.0, "iso_source": "PhotographicSensitivity"},
    ],
)
def test_notes_of_every_frame_without_an_iso_are_read(tmp_path, weights, missing):
    burst, asked = loaded(tmp_path, weights, lambda path: missing)
    assert len(asked) == len(set(asked)) == 3
    assert {info.iso for info in burst.infos} == {102400}
    (note,) = denoise.notes_of(burst.infos)
    assert "ISO 102400 is taken from MakerNote ISOInfo" in note


def test_a_frame_whose_notes_cannot_be_read_does_not_end_the_burst(tmp_path, weights):
    burst, _ = loaded(
        tmp_path,
        weights,
        lambda path: {"iso": None, "iso_source": ""},
        lambda path: CameraNotes(notes=("left out",)) if "0001" in path.name else NOTES,
    )
    assert {info.iso for info in burst.infos} == {102400}
    (odd,) = (info for info in burst.infos if "0001" in info.path.name)
    assert odd.notes == ("left out", "its ISO is taken to be 102400, as in the other frames")
