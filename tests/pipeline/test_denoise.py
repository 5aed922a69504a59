"""One burst: every stage has an effect, and tiles shrink when memory runs out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cards import write_bursts
from command_line import kpn

from kpn_cli.align import block_matching
from kpn_cli.errors import KpnError
from kpn_cli.merge import merge
from kpn_cli.network.kpn import KPN
from kpn_cli.pipeline import denoise
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_info, read_planes


def test_tiles_become_smaller_when_memory_runs_out(tmp_path, weights, monkeypatch):
    write_bursts(tmp_path / "a", 1, size=(300, 420))
    options = Options(tmp_path / "out", formats=("dng",), weights=weights, tile=768)
    tried = []
    real = merge.denoise_frames

    def short(*arguments, tile, **options):
        tried.append(tile)
        if tile > 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments, tile=tile, **options)

    monkeypatch.setattr(merge, "denoise_frames", short)
    assert denoise.denoise([tmp_path / "a"], options).outputs["dng"].exists()
    assert tried == [768, 384, 192]

    def never(*arguments, tile, **options):
        tried.append(tile)
        raise MemoryError

    monkeypatch.setattr(merge, "denoise_frames", never)
    with pytest.raises(KpnError, match="need more memory than is free"):
        denoise.denoise([tmp_path / "a"], replace(options, overwrite=True))
    assert tried[-1] == merge.SMALLEST_TILE


@pytest.mark.parametrize("stage", ["align", "noise", "network", "reference", "strength"])
def test_every_stage_changes_the_picture(stage, burst, weights, tmp_path, monkeypatch):
    frames, _ = burst

    def result(name: str, *more: object) -> np.ndarray:
        out = tmp_path / name
        run = kpn("denoise", *frames, "-o", out, "--weights", weights, "--format", "dng", *more)
        assert run.exit_code == 0, run.output
        return read_planes(read_info(next(out.iterdir())))

    before = result("before")
    more: list[object] = []
    if stage == "align":
        right = block_matching.Aligner.align
        monkeypatch.setattr(
            block_matching.Aligner, "align", lambda self, frame: right(self, frame) + 3
        )
    elif stage == "noise":
        more = ["--noise", "1e-5,1e-7"]
    elif stage == "network":
        monkeypatch.setattr(KPN, "_unet", lambda self, x: x.new_ones(len(x), 8, *x.shape[2:]))
    elif stage == "reference":
        more = ["--reference", "first"]
    else:
        more = ["--strength", "3"]
    assert np.abs(result("after", *more) - before).mean() > 1e-6
