"""Outputs never replace another file by accident, and claim no time that is not known."""

from __future__ import annotations

from pathlib import Path

import exifread
import pytest
from cards import denoised, digests, write_bursts, write_frame

from kpn_cli.errors import KpnError
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
