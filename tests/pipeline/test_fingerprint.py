"""Every output holds the fingerprint of its burst."""

from __future__ import annotations

import os
from dataclasses import replace

import marked_bursts
import pytest
from cards import denoised, write_bracket, write_bursts, write_frame

from kpn_cli.errors import KpnError
from kpn_cli.pipeline import denoise, fingerprint
from kpn_cli.pipeline.options import Options


def test_outputs_hold_the_fingerprint_of_their_burst(tmp_path, weights):
    write_bursts(tmp_path / "a", 1)
    options = Options(tmp_path, formats=("dng", "linear", "srgb", "jpeg"), weights=weights)
    result = denoise.denoise([tmp_path / "a"], options)
    files = sorted((tmp_path / "a").iterdir())
    mark = fingerprint.burst_fingerprint(
        [fingerprint.file_digest(f) for f in files], fingerprint.options_digest(options)
    )
    for path in result.outputs.values():
        assert fingerprint.has_fingerprint(path, mark)
        assert not fingerprint.has_fingerprint(path, bytes(16))
    assert denoise.denoise([tmp_path / "a"], options).skipped
    changed = [
        replace(options, strength=2.0),
        replace(options, weights=None),
        replace(options, reference="first"),
        replace(options, compression="none"),
        replace(options, defects="off"),
    ]
    marks = {fingerprint.options_digest(each) for each in (options, *changed)}
    assert len(marks) == 6
    assert fingerprint.options_digest(replace(options, device="cpu", tile=96)) in marks


def test_a_changed_frame_is_noticed(tmp_path, weights):
    write_bursts(tmp_path / "a", 1)
    out = tmp_path / "out"
    command = [tmp_path / "a", "-o", out, "--weights", weights, "--reference", "first"]
    denoised(*command, "--format", "dng")
    changed = tmp_path / "a" / "IMG_0001.dng"
    stamp = changed.stat()
    write_frame(changed, 0.15, seed=9)
    os.utime(changed, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # not by its time
    document = denoised(*command, "--format", "dng", code=1)
    assert "made of other frames" in document["failed"][0]["error"]
    assert document["failed"][0]["files"] == [str(p) for p in sorted((tmp_path / "a").iterdir())]


def test_options_of_earlier_versions_have_the_same_digest_so_that_their_results_stay():
    digests = {
        "c2ce6eb86d1b9ff45e46201490cd33d54a558e3125cbb92c901e346de1e3211e": Options("x"),
        "dd14597b98a021a8fde63fbaff5f8aa9619aa0992035b48385fb61efdd50a273": Options(
            "x", strength=2, reference="first"
        ),
    }
    for digest, options in digests.items():
        assert fingerprint.options_digest(options) == digest


def test_a_list_of_defects_changes_the_picture(tmp_path):
    camera = marked_bursts.listing_camera(tmp_path / "camera.json")
    listing = Options("x", noise=camera)
    none = replace(listing, noise=replace(listing.noise, defects=None))
    assert fingerprint.options_digest(listing) != fingerprint.options_digest(none)


def test_headroom_changes_the_picture_and_exposures_only_which_frames_may_be_merged():
    plain = fingerprint.options_digest(Options("x"))
    assert fingerprint.options_digest(Options("x", headroom=True)) != plain
    assert fingerprint.alike_digest(Options("x", headroom=True)) == plain
    assert fingerprint.options_digest(Options("x", exposures="mixed")) == plain


@pytest.mark.parametrize("first", [False, True])
def test_bursts_of_one_exposure_stay_finished_with_and_without_headroom(first, tmp_path, weights):
    write_bursts(tmp_path / "burst", 1)
    bracket = write_bracket(tmp_path / "bracket", (0, -2, 2))
    options = Options(
        tmp_path / "out", formats="dng", weights=weights, exposures="mixed", headroom=first
    )
    made = denoise.denoise([tmp_path / "burst"], options)
    denoise.denoise(bracket, options)
    before = made.outputs["dng"].read_bytes()
    other = replace(options, headroom=not first)
    for each in (options, other):
        again = denoise.denoise([tmp_path / "burst"], each)
        assert again.skipped and again.outputs == made.outputs
    assert made.outputs["dng"].read_bytes() == before
    assert denoise.denoise(bracket, options).skipped
    with pytest.raises(KpnError, match="with other options"):
        denoise.denoise(bracket, other)
