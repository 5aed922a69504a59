"""One burst: every stage has an effect, and tiles shrink when memory runs out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import tifffile
import torch
from cards import START, denoised, write_bursts
from command_line import kpn
from inspected_bursts import write_burst
from raw_files import BLACK, WHITE, scene

from kpn_cli import __version__
from kpn_cli.align import block_matching
from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.merge import merge, tile
from kpn_cli.network.kpn import KPN
from kpn_cli.noise import selection
from kpn_cli.output import dng_tags, dng_writer
from kpn_cli.pipeline import denoise
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_info, read_planes

NOISE = NoiseModel.uniform(1e-3, 1e-5)


def test_the_outputs_tell_the_arithmetic(tmp_path, weights):
    write_bursts(tmp_path / "a", 1, size=(96, 120))
    options = Options(tmp_path / "out", weights=weights, precision="bf16")
    result = denoise.denoise([tmp_path / "a"], options)
    assert result.precision == "bf16"
    for path in result.outputs.values():
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].tags["Software"].value == f"kpn {__version__} bf16"


def test_at_strength_0_no_network_runs(tmp_path, weights, monkeypatch):
    write_bursts(tmp_path / "a", 1, size=(96, 120))
    monkeypatch.setattr(denoise, "in_precision", pytest.fail)
    options = Options(
        tmp_path / "out", formats=("dng",), weights=weights, precision="int8", strength=0
    )
    result = denoise.denoise([tmp_path / "a"], options)
    assert result.precision_reason == "strength 0 runs no network"
    assert not result.notes


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
        monkeypatch.setattr(KPN, "unet", lambda self, x: x.new_ones(len(x), 8, *x.shape[2:]))
    elif stage == "reference":
        more = ["--reference", "first"]
    else:
        more = ["--strength", "3"]
    assert np.abs(result("after", *more) - before).mean() > 1e-6


def frames_lit(folder, exposures, brightness):
    """Write frames of one scene whose tags and whose brightness are given."""
    folder.mkdir(exist_ok=True)
    for n, (time, factor) in enumerate(zip(exposures, brightness, strict=True)):
        noise = np.random.default_rng(n).normal(0, 20, (128, 160))
        mosaic = BLACK + (scene(128, 160) - float(BLACK)) * factor + noise
        tags = dng_tags.DngTags(
            "RGGB",
            (BLACK,) * 4,
            WHITE,
            iso=800.0,
            exposure_time=time,
            captured=START + timedelta(seconds=0.1 * n),
        )
        path = folder / f"{n}.dng"
        dng_writer.write_cfa_dng(path, np.clip(mosaic, 0, 65535).astype(np.uint16), tags)


def test_where_tags_do_not_tell_the_exposure_the_brightness_of_the_frames_does(tmp_path, weights):
    # By its tags each of the others is 0.16 EV brighter than the first.
    frames_lit(tmp_path, [0.01] + [0.0112] * 3, [1.0, 1.0, 1.12, 1.3])
    options = Options(
        tmp_path / "out", formats=("dng",), weights=weights, reference="first", overwrite=True
    )
    result = denoise.denoise(sorted(tmp_path.glob("*.dng")), options)
    assert [path.name for path in result.frames] == ["0.dng", "1.dng", "2.dng"]
    assert result.exposure[2] == pytest.approx(1.12, rel=0.01)
    ((left_out, why),) = result.dropped.items()
    assert left_out.name == "3.dng"
    assert why.startswith("another exposure (1/89 s, ISO 800; the reference 1/100 s, ISO 800)")
    assert "1.30 times as bright" in why


def test_a_burst_whose_exposure_times_jitter_is_merged_with_and_without_grouping(tmp_path, weights):
    clock = (16665000e-9, 16665973e-9, 16664027e-9)
    frames_lit(tmp_path / "a", clock, [1.0] * 3)
    for n, more in enumerate(((), ("--no-group",))):
        out = tmp_path / f"out{n}"
        found = denoised(tmp_path / "a", "-o", out, "--weights", weights, "--format", "dng", *more)
        assert [len(burst["frames"]) for burst in found["bursts"]] == [3]


def test_told_half_the_sigma_frames_do_not_seem_to_be_of_other_scenes(tmp_path, weights):
    flat = np.full((4, 4, 150, 160), 0.2, np.float32)
    paths = write_burst(tmp_path / "a", flat, NOISE)
    told = Options(
        tmp_path / "out", formats=("dng",), weights=weights, noise=NOISE.with_strength(0.5)
    )
    result = denoise.denoise(paths, told)
    assert "2 times the stated sigma" in result.noise.warning
    assert len(result.frames) == 4
    assert max(result.rejected) < 0.05


@pytest.mark.parametrize("shown", [1.1, 2.0])
@pytest.mark.parametrize("count", [4, 9])  # the network takes 8
def test_what_the_frames_show_is_measured_and_assumed_once(
    tmp_path, weights, monkeypatch, shown, count
):
    write_bursts(tmp_path / "a", 1, frames=count, size=(300, 420))
    options = Options(tmp_path / "out", formats=("dng",), weights=weights, noise=NOISE)
    calls = []

    def measure(frames, shifts, noise):
        calls.append(noise)
        return shown

    monkeypatch.setattr(selection, "observed_sigma_ratio", measure)
    monkeypatch.setattr(merge, "observed_sigma_ratio", measure)
    monkeypatch.setattr(tile, "observed_sigma_ratio", measure)
    told = []
    merge_frames = merge.denoise_frames

    def spy(network, frames, shifts, noise, **more):
        told.append((noise, more["observed"]))
        return merge_frames(network, frames, shifts, noise, **more)

    monkeypatch.setattr(merge, "denoise_frames", spy)
    result = denoise.denoise([tmp_path / "a"], options)
    assert calls == [NOISE]
    assumed = NOISE if shown == 1.1 else NOISE.with_strength(2)
    assert told == [(assumed, 1.1 if shown == 1.1 else 1.0)]
    assert result.noise.model == assumed
