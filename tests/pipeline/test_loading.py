"""Copies of a frame are left out, and a burst that does not fit into memory is refused."""

from __future__ import annotations

import shutil

import pytest
from cards import denoised, write_bursts

from kpn_cli.errors import KpnError
from kpn_cli.pipeline import denoise, loading
from kpn_cli.pipeline.options import Options


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
