"""Outputs never replace another file by accident, and claim nothing that is not known."""

from __future__ import annotations

import threading
from pathlib import Path

import exifread
import pytest
import tifffile
from cards import denoised, digests, write_bursts, write_frame
from dng_factory import write_dng
from raw_files import BLACK, WHITE, scene

from kpn_cli.errors import KpnError
from kpn_cli.output import develop, dng_writer
from kpn_cli.pipeline import denoise, fingerprint, loading
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_capture


def test_the_result_of_a_photo_without_a_time_has_none(tmp_path, weights):
    write_frame(tmp_path / "a.dng", 0, captured=None)
    how = ("--format", "dng,srgb,jpeg", "--weights", weights)
    document = denoised(tmp_path / "a.dng", "-o", tmp_path / "out", *how)
    (result,) = document["bursts"]
    for path in result["outputs"].values():
        with open(path, "rb") as file:
            times = {tag for tag in exifread.process_file(file) if "DateTime" in tag}
        assert not times
    assert read_capture(Path(result["outputs"]["dng"])).captured is None


def test_bursts_that_race_for_a_name_never_replace_each_other(tmp_path, weights):
    loaded = []
    for n, folder in enumerate(("a", "b")):
        write_bursts(tmp_path / folder, 1 + n)
        options = Options(
            tmp_path / "out", formats=("dng", "srgb", "jpeg"), reference="first", weights=weights
        )
        files = sorted((tmp_path / folder).iterdir())[-2:]
        for path in files:
            path.rename(path.with_name(f"IMG_{path.name[-5:]}"))
        files = sorted((tmp_path / folder).glob("IMG_?.dng"))
        loaded.append(loading.load_burst(files, options, fingerprint.options_digest(options)))
    engine = denoise.Engine(options)
    computed = [denoise.compute(each, options, engine) for each in loaded]
    first = denoise.write_computed(computed[0], options)
    before = digests(tmp_path / "out")
    with pytest.raises(KpnError, match="already exists: another process"):
        denoise.write_computed(computed[1], options)
    assert digests(tmp_path / "out") == before
    assert len(before) == len(first.outputs) == 3


@pytest.mark.parametrize(("strength", "said"), [("0", None), ("0.5", (1, 2)), ("3", (1, 1))])
def test_a_dng_tells_how_much_noise_reduction_there_was(tmp_path, weights, strength, said):
    write_frame(tmp_path / "a.dng", 0)
    how = ("--format", "dng", "--weights", weights, "--strength", strength)
    (done,) = denoised(tmp_path / "a.dng", "-o", tmp_path / "out", *how)["bursts"]
    with tifffile.TiffFile(done["outputs"]["dng"]) as file:
        tags = file.pages[0].pages[0].tags
        assert (tags[50935].value if 50935 in tags else None) == said


def test_what_is_damaged_in_the_tags_of_the_reference_is_told(tmp_path, weights):
    extra = [(700, 1, 7, b"<broken", True), (50718, 5, 2, (1, 1, 0, 1), True)]
    write_dng(tmp_path / "a.dng", scene(64, 80), black=(BLACK,), white=WHITE, extra=extra)
    how = ("--format", "dng", "--weights", weights, "--noise", "1e-4,1e-6")
    (done,) = denoised(tmp_path / "a.dng", "-o", tmp_path / "out", *how)["bursts"]
    words = ("DefaultScale", "XMP is left out")
    assert [word in note for word, note in zip(words, done["notes"], strict=True)] == [True, True]


def computed_burst(tmp_path, weights):
    write_frame(tmp_path / "a.dng", 0)
    options = Options(tmp_path / "out", formats=("dng", "srgb"), weights=weights)
    digest = fingerprint.options_digest(options)
    loaded = loading.load_burst([tmp_path / "a.dng"], options, digest)
    return denoise.compute(loaded, options, denoise.Engine(options)), options


def test_the_dng_and_the_pictures_are_written_at_once(monkeypatch, tmp_path, weights):
    computed, options = computed_burst(tmp_path, weights)
    both = threading.Barrier(2)
    write_dng, bands = dng_writer.write_denoised_dng, develop.develop_bands

    def wait_and_write(*arguments, **how):
        both.wait(20)
        return write_dng(*arguments, **how)

    def wait_and_develop(info, planes, **how):
        if not how:  # not the preview
            both.wait(20)
        return bands(info, planes, **how)

    monkeypatch.setattr(dng_writer, "write_denoised_dng", wait_and_write)
    monkeypatch.setattr(develop, "develop_bands", wait_and_develop)
    done = denoise.write_computed(computed, options)
    assert all(path.stat().st_size for path in done.outputs.values())


@pytest.mark.parametrize("failing", ["dng", "srgb", "both"])
def test_if_one_output_fails_the_other_is_whole_and_the_error_about_the_dng_comes_first(
    monkeypatch, tmp_path, weights, failing
):
    computed, options = computed_burst(tmp_path, weights)

    def fail(name):
        def work(*_, **__):
            raise KpnError(f"{name}: disk full")

        return work

    if failing != "srgb":
        monkeypatch.setattr(dng_writer, "write_denoised_dng", fail("dng"))
    if failing != "dng":
        monkeypatch.setattr(develop, "to_srgb", fail("srgb"))
    with pytest.raises(KpnError, match="srgb" if failing == "srgb" else "dng"):
        denoise.write_computed(computed, options)
    written = {"dng": {"a_kpn_srgb.tif"}, "srgb": {"a_kpn.dng"}, "both": set()}[failing]
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
