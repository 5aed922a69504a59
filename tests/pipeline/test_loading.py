"""Copies of a frame are left out, and a burst that does not fit into memory is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cards import denoised, write_bracket, write_bursts, write_frame
from command_line import kpn
from raw_files import BLACK, XMP, cfa_image, dng_of_images, scene

from kpn_cli.errors import KpnError
from kpn_cli.output import dng_tags, dng_writer
from kpn_cli.pipeline import denoise, loading
from kpn_cli.pipeline.fingerprint import options_digest
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.camera_notes import CameraNotes
from kpn_cli.raw.reader import read_info, read_mosaic


def test_a_burst_larger_than_the_memory_is_refused_before_it_is_read(
    tmp_path, weights, monkeypatch
):
    write_bursts(tmp_path / "card", 1, frames=9)
    monkeypatch.setattr(loading, "free_memory", lambda: 9000)
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


def test_files_that_are_read_at_a_time_give_the_same_burst_as_one_after_the_other(
    tmp_path, weights, monkeypatch
):
    write_bursts(tmp_path / "a", 1, frames=4)
    shutil.copy(tmp_path / "a" / "IMG_0000.dng", tmp_path / "a" / "IMG_0009.dng")
    (tmp_path / "a" / "IMG_0005.dng").write_bytes(b"no raw")
    files = sorted((tmp_path / "a").iterdir())
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    bursts, stages = [], []
    monkeypatch.setattr(loading, "_SMALL_BURST", 0)
    for cores in (1, 3):
        monkeypatch.setattr(loading, "usable_cores", lambda cores=cores: cores)
        seen = []
        bursts.append(loading.load_burst(files, options, "", on_stage=seen.append))
        stages.append(seen)
    one, several = bursts
    assert stages[0] == stages[1]
    assert (one.infos, one.dropped, one.fingerprint) == (
        several.infos,
        several.dropped,
        several.fingerprint,
    )
    assert list(one.dropped) == list(several.dropped) and len(one.dropped) == 2
    for planes, expected in zip(several.planes, one.planes, strict=True):
        np.testing.assert_array_equal(planes, expected)


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


@pytest.mark.parametrize("iso", [None, 65535.0])
def test_a_frame_without_an_iso_among_frames_that_state_one_is_of_their_burst(
    tmp_path, weights, iso
):
    def stated(path):
        if "0001" in path.name:
            return {"iso": iso, "iso_source": "PhotographicSensitivity" if iso else ""}
        return {"iso": usual, "iso_source": "ISOSpeed"}

    usual = 102400 if iso else 800
    burst, asked = loaded(tmp_path, weights, stated, lambda path: CameraNotes())
    assert asked[0] == "IMG_0001.dng"
    assert [info.iso for info in burst.infos] == [usual] * 3
    (odd,) = (info for info in burst.infos if "0001" in info.path.name)
    assert odd.notes[-1] == f"its ISO is taken to be {usual}, as in the other frames"


def test_an_iso_above_the_largest_number_of_its_tag_is_not_taken_from_frames_below_it(
    tmp_path, weights
):
    overflows = {"iso": 65535.0, "iso_source": "PhotographicSensitivity"}
    with pytest.raises(KpnError, match=r"^IMG_0001.dng: ISO 65535, but IMG_0000.dng has 800"):
        loaded(
            tmp_path,
            weights,
            lambda path: overflows if "0001" in path.name else {},
            lambda path: CameraNotes(),
        )


def test_libraw_s_iso_is_not_replaced_by_that_of_other_frames(tmp_path, weights):
    by_libraw = {"iso": 850.0, "iso_source": "LibRaw"}
    burst, _ = loaded(
        tmp_path,
        weights,
        lambda path: by_libraw if "0001" in path.name else {},
        lambda path: CameraNotes(),
    )
    assert sorted(info.iso or 0 for info in burst.infos) == [800, 800, 850]


def test_frames_without_an_iso_are_grouped_and_merged_with_those_around_them(tmp_path, weights):
    for n in range(4):
        iso = None if n == 1 else 800.0
        write_frame(tmp_path / "a" / f"{n}.dng", 0.1 * n + 0.05, iso=iso)
    for n, more in enumerate(((), ("--no-group",))):
        out = tmp_path / f"out{n}"
        found = denoised(tmp_path / "a", "-o", out, "--weights", weights, "--format", "dng", *more)
        assert [len(burst["frames"]) for burst in found["bursts"]] == [4]


def stored_again(source: Path, path: Path, change=lambda mosaic: mosaic, **tags: object) -> None:
    """Store a file's pixels again, as an editor without maker's notes does."""
    info = read_info(source)
    written = dng_tags.DngTags(
        info.phase, info.black, info.white, iso=info.iso, exposure_time=info.exposure_time,
        captured=info.captured, make=info.make, model=info.model, **tags
    )  # fmt: skip
    dng_writer.write_cfa_dng(path, change(read_mosaic(info)), written)


def test_of_equal_files_the_one_with_a_sidecar_stays(tmp_path):
    write_bursts(tmp_path / "a", 1, frames=2)
    (original,) = (tmp_path / "a").rglob("*1.dng")
    copy = original.with_name("A.dng")
    shutil.copy(original, copy)
    original.with_suffix(".xmp").write_bytes(XMP)
    loaded = loading.load_burst(sorted(original.parent.glob("*.dng")), Options(tmp_path), "digest")
    assert list(loaded.dropped) == [copy]


def test_the_same_pixels_under_other_bytes_are_a_copy(tmp_path, weights):
    for n in range(3):
        write_frame(tmp_path / "a" / f"IMG_000{n}.dng", 0.1 * n + 0.05, software="Ver.1.01")
    # First by name, so that it is read first; it stays out nevertheless.
    stored_again(
        tmp_path / "a" / "IMG_0001.dng", tmp_path / "a" / "A.dng", software="Adobe DNG Converter"
    )
    (done,) = denoised(
        tmp_path / "a", "-o", tmp_path / "out", "--weights", weights, "--format", "dng"
    )["bursts"]
    assert sorted(Path(p).name for p in done["frames"]) == [f"IMG_000{n}.dng" for n in range(3)]
    assert {Path(p).name: why for p, why in done["dropped"].items()} == {
        "A.dng": "a copy of IMG_0001.dng: the same pixels"
    }


def test_a_burst_stays_finished_when_copies_appear_or_are_removed(tmp_path, weights):
    for n in range(3):
        write_frame(tmp_path / "a" / f"IMG_{n}.dng", 0.1 * n + 0.05, software="Ver.1.01")
    edit = tmp_path / "a" / "IMG_1_edit.dng"
    outs = [tmp_path / "before", tmp_path / "with"]

    def run(out):
        told = denoised(tmp_path / "a", "-o", out, "--weights", weights, "--format", "dng")
        return told["bursts"][0]

    assert not run(outs[0])["skipped"]
    stored_again(tmp_path / "a" / "IMG_1.dng", edit, software="Adobe DNG Converter")
    again = run(outs[0])
    assert again["skipped"]
    assert again["dropped"] == {str(edit): "a copy of IMG_1.dng: the same pixels"}
    assert str(edit) not in again["frames"]
    assert len(again["frames"]) == 3
    assert not run(outs[1])["skipped"]
    assert run(outs[1])["skipped"]
    edit.unlink()
    assert run(outs[1])["skipped"]
    write_frame(tmp_path / "a" / "IMG_3.dng", 0.35)  # a frame more is another burst
    assert not run(outs[0])["skipped"]


def test_a_file_whose_images_are_all_copies_does_not_change_the_burst(tmp_path):
    shots = images_of(2)
    first = dng_of_images(tmp_path / "a.dng", *map(cfa_image, shots))
    again = dng_of_images(tmp_path / "b.dng", *map(cfa_image, shots[::-1]))
    marks = []
    for files in ([first], [first, again]):
        loaded = loading.load_burst(files, Options(tmp_path / "out"), "digest")
        assert isinstance(loaded, loading.Loaded)
        marks.append(loaded.fingerprint)
    assert len(loaded.dropped) == 2
    assert marks[0] == marks[1]


@pytest.mark.parametrize("kind", ["bytes", "pixels", "losses"])
def test_a_copy_as_the_reference_stands_for_its_original(tmp_path, kind):
    for n in range(2):
        write_frame(tmp_path / f"IMG_{n}.dng", 0.1 * n + 0.05, size=(240, 320), software="Ver.1")
    original, copy = tmp_path / "IMG_0.dng", tmp_path / "IMG_0 copy.dng"
    if kind == "bytes":
        shutil.copy(original, copy)
    else:
        change = (lambda m: m + m % 2) if kind == "losses" else (lambda m: m)
        stored_again(original, copy, change, software="GIMP")
    files = [original, copy, tmp_path / "IMG_1.dng"]
    for wanted in (copy.name, str(copy)):
        options = Options(tmp_path / "out", reference=wanted)
        loaded = loading.load_burst(files, options, "digest")
        assert isinstance(loaded, loading.Loaded)
        assert loaded.files[0] == original
        assert f"--reference {wanted}: a copy of IMG_0.dng, which is used" in loaded.infos[0].notes
    with pytest.raises(KpnError, match="no such frame"):
        loading.load_burst(files, Options(tmp_path / "out", reference="none.dng"), "digest")


def test_a_frame_that_was_compressed_again_with_losses_is_a_copy(tmp_path):
    for n in range(2):
        path = tmp_path / "a" / f"IMG_000{n}.dng"
        write_frame(path, 0.1 * n + 0.05, size=(240, 320), software="Ver.1.01")
    again = tmp_path / "a" / "IMG_0000 again.dng"
    stored_again(
        tmp_path / "a" / "IMG_0000.dng", again, lambda mosaic: mosaic + mosaic % 2, software="GIMP"
    )
    loaded = loading.load_burst(
        sorted((tmp_path / "a").iterdir()), Options(tmp_path / "out"), "digest"
    )
    assert isinstance(loaded, loading.Loaded)
    assert {path.name for path in loaded.files} == {"IMG_0000.dng", "IMG_0001.dng"}
    assert loaded.dropped[again].startswith("a copy of IMG_0000.dng, stored again with losses")


def test_a_dry_run_says_that_it_does_not_look_at_the_pictures(tmp_path):
    write_bursts(tmp_path / "a", 1)
    shown = kpn("denoise", tmp_path / "a", "-o", tmp_path / "out", "--dry-run")
    assert "does not look at the pictures" in shown.stderr
    told = json.loads(
        kpn("denoise", tmp_path / "a", "-o", tmp_path / "out", "--dry-run", "--json").stdout
    )
    assert "does not look at the pictures" in told["note"]


# --- frames of different exposure -------------------------------------------


def load_mixed(files, **options) -> loading.Loaded:
    how = Options(files[0].parent / "out", **{"exposures": "mixed"} | options)
    loaded = loading.load_burst(files, how, "digest")
    assert isinstance(loaded, loading.Loaded)
    return loaded


@pytest.mark.parametrize(
    ("reference", "name", "lift"),
    [
        ("auto", "HDR_0.dng", 0),
        ("darkest", "HDR_1.dng", 2),
        ("HDR_1.dng", "HDR_1.dng", 2),
        ("2", "HDR_2.dng", 0),  # brighter than auto: nothing to lift
        ("first", "HDR_0.dng", 0),
    ],
)
def test_a_reference_darker_than_the_well_exposed_frame_is_to_be_lifted(
    tmp_path, reference, name, lift
):
    loaded = load_mixed(write_bracket(tmp_path, (0, -2, 2)), reference=reference)
    assert loaded.files[0].name == name
    assert len(loaded.files) == len(loaded.planes) == 3
    assert loaded.lift == pytest.approx(lift, abs=1e-3)
    assert loaded.settings([0])[0] == {
        "HDR_0.dng": "1/100 s, ISO 800",
        "HDR_1.dng": "1/400 s, ISO 800",
        "HDR_2.dng": "1/25 s, ISO 800",
    }.get(name)


def test_bursts_of_one_exposure_load_alike_whatever_exposures_are_wanted(tmp_path):
    write_bursts(tmp_path / "a", 1, frames=4)
    files = sorted((tmp_path / "a").iterdir())
    one, other = load_mixed(files, exposures="same"), load_mixed(files, reference="darkest")
    assert one.files == other.files
    assert (one.lift, one.settings([0]), one.dropped) == (0, [], {})
    assert one.fingerprint == other.fingerprint  # so that finished ones stay finished


def test_frames_more_than_4_ev_from_the_reference_are_left_out_with_a_line(tmp_path):
    files = write_bracket(tmp_path, (0, -3, 3))
    assert not load_mixed(files).dropped
    loaded = load_mixed(files, reference="darkest")
    assert [path.name for path in loaded.files] == ["HDR_1.dng", "HDR_0.dng"]
    assert loaded.dropped == {
        files[
            2
        ]: "+6.0 EV to the reference (1/12 s, ISO 800): more than the 4 EV that can be merged"
    }
    assert loaded.lift == pytest.approx(3, abs=1e-3)


@pytest.mark.parametrize(("stop", "light", "shows"), [(-4, 0.0, "black"), (4, 22.0, "white")])
def test_a_blank_frame_of_a_bracket_is_left_out_with_a_line(tmp_path, stop, light, shows):
    files = write_bracket(tmp_path, (0, -1, 1))
    blank = tmp_path / "HDR_3.dng"
    write_frame(blank, 0.65, exposure_time=0.01 * 2.0**stop, light=light)
    loaded = load_mixed([*files, blank])
    assert len(loaded.files) == 3
    assert list(loaded.dropped) == [blank]
    assert f"the picture is wholly {shows} (1/" in loaded.dropped[blank]
    with pytest.raises(
        KpnError, match=f"^--reference HDR_3.dng: left out, the picture is wholly {shows}"
    ):
        load_mixed([*files, blank], reference="HDR_3.dng")


def test_blank_frames_stay_if_there_are_no_others(tmp_path):
    files = [tmp_path / f"{n}.dng" for n in range(2)]
    for n, path in enumerate(files):
        write_frame(path, n + 0.05, exposure_time=0.01 * 4**n, light=0.0)
    assert len(load_mixed(files).files) == 2
    assert not load_mixed(files[:1]).dropped


def test_a_bracket_that_states_no_exposure_is_left_out_by_its_pictures(tmp_path):
    files = write_bracket(tmp_path, (0, -1, 1), exposure_time=None)
    with pytest.raises(loading.BracketError, match=r"^HDR_0.dng, HDR_1.dng, HDR_2.dng in ") as told:
        load_mixed(files, exposures="same")
    assert "state no exposure times; add --exposures mixed" in str(told.value)
    stated = write_bracket(tmp_path, (0, -1, 1), exposure_time=0.01)  # the scene has changed
    assert len(load_mixed(stated, exposures="same").files) == 3


# --- several raw images in one file -----------------------------------------


def images_of(count: int, size=(96, 128)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shots = [scene(*size) + rng.normal(0, 60, size) for _ in range(count)]
    return [np.rint(shot).astype(np.uint16) for shot in shots]


def test_the_images_of_a_file_are_a_burst_and_are_named_by_their_numbers(tmp_path, weights):
    shots = images_of(3)
    half = BLACK + (shots[0] - BLACK) // 2  # as the second image of dual pixels, or of a bracket
    (tmp_path / "a").mkdir()
    path = dng_of_images(tmp_path / "a" / "multi.dng", *map(cfa_image, [*shots, half, shots[1]]))
    (done,) = denoised(
        *(path, "-o", tmp_path / "out", "--weights", weights, "--format", "dng"),
        *("--reference", "multi.dng#1"),
    )["bursts"]
    assert done["reference"] == f"{path}#1"
    assert done["frames"] == [f"{path}#{n}" for n in (1, 0, 2)]
    assert done["dropped"] == {
        f"{path}#3": "0.5 times as bright as multi.dng#0: another exposure",
        f"{path}#4": "a copy of multi.dng#1: the same pixels",
    }
    assert done["outputs"] == {"dng": str(tmp_path / "out" / "multi_kpn.dng")}
    assert done["notes"] == ["the file holds 5 raw images; they are taken for a burst"]


def test_a_damaged_image_of_a_file_is_left_out_with_its_reason(tmp_path):
    shots = images_of(3)
    shots[1][:] = BLACK
    path = dng_of_images(tmp_path / "multi.dng", *map(cfa_image, shots))
    loaded = loading.load_burst([path], Options(tmp_path / "out"), "digest")
    assert isinstance(loaded, loading.Loaded)
    assert sorted(frame.name for frame in loaded.files) == ["multi.dng#0", "multi.dng#2"]
    assert "the image is blank" in loaded.dropped[path.with_name("multi.dng#1")]


def test_more_images_than_libraw_knows_are_told(tmp_path):
    path = dng_of_images(tmp_path / "multi.dng", *map(cfa_image, images_of(12, (48, 64))))
    loaded = loading.load_burst([path], Options(tmp_path / "out"), "digest")
    assert isinstance(loaded, loading.Loaded)
    assert len(loaded.files) + len(loaded.dropped) == 12
    assert all("LibRaw" in reason for reason in loaded.dropped.values())
