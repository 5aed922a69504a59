"""From files to the noise that is measured, told to the network, and left."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from kpn_cli.align.alignment import align_burst
from kpn_cli.burst.frame import Frame
from kpn_cli.image import bayer
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.noise.estimation import sigma_ratio
from kpn_cli.noise.selection import choose_noise, first_guess
from kpn_cli.pipeline import denoise
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_info, read_mosaic, read_planes
from kpn_cli.synthesis import protocol
from kpn_cli.synthesis.camera import Camera, write_frames
from kpn_cli.synthesis.dataset import DatasetConfig, write_dataset

# --- measured ---------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    """Two photos, enlarged: their own grain would count as noise at gain 0."""
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for name in ("coffee", "chelsea"):
        photo = cv2.cvtColor(getattr(data, name)(), cv2.COLOR_RGB2BGR)
        paths.append(folder / f"{name}.png")
        large = cv2.resize(photo, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(paths[-1]), large)
    return paths


def measured(files: list[Path]) -> NoiseModel:
    """The noise of files as of a camera that says nothing of it."""
    infos = [read_info(path) for path in files]
    frames = [
        Frame(torch.from_numpy(bayer.pack(read_mosaic(i), i.phase)), i.black, i.white)
        for i in infos
    ]
    stripped = replace(infos[0], noise_profile=None, iso=None)
    found = align_burst(frames, first_guess(stripped, frames[0], None))
    report = choose_noise(stripped, found.frames, found.shifts)
    assert report.source == "measured"
    return report.model


@pytest.mark.parametrize("gain", protocol.GAINS)
def test_noise_of_synth_bursts_is_measured_to_a_tenth_and_of_frames_to_a_quarter(
    gain, photos, tmp_path
):
    config = DatasetConfig(count=2, frames=5, format="dng", seed=3, gain=str(gain))
    for burst in write_dataset(photos, tmp_path, config):
        said = json.loads((burst / "truth.json").read_text())
        truth = NoiseModel.uniform(said["shot"], said["read"])
        files = sorted(burst.glob("IMG_*.dng"))
        assert sigma_ratio(measured(files), truth, 0.18) == pytest.approx(1, abs=0.1)
        assert sigma_ratio(measured(files[:1]), truth, 0.18) == pytest.approx(1, abs=0.25)


# --- left, by strength ------------------------------------------------------

GREY = np.full((4, 80, 80), 0.18, np.float32)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Noise that the shipped network leaves of a flat burst, as a share of the reference's."""

    @cache
    def at(gain: int, strength: float) -> float:
        folder = tmp_path_factory.mktemp("flat")
        noise, rng = protocol.noise_of_gain(gain), np.random.default_rng(gain)
        frames = noise.sample(np.broadcast_to(GREY, (5, *GREY.shape)), rng)
        files = write_frames(folder, frames, noise, Camera(), datetime(2026, 1, 1), "flat")
        options = Options(
            folder, formats=("dng",), reference="first", strength=strength, precision="fp32"
        )
        result = denoise.denoise(files, options)
        out, before = (read_planes(read_info(p)) for p in (result.outputs["dng"], files[0]))
        inner = np.s_[:, 8:-8, 8:-8]
        return float(np.std((out - GREY)[inner]) / np.std((before - GREY)[inner]))

    return at


@pytest.mark.parametrize("gain", [0, 1, 4])
def test_more_strength_leaves_less_noise_up_to_the_measured_one(gain, left):
    steps = [left(gain, strength) for strength in (0, 0.5, 1)]
    assert np.all(np.diff(steps) < -0.2)
    assert steps[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("gain", [0, 1, 4])
def test_beyond_the_measured_one_more_strength_leaves_no_more_noise(gain, left):
    one, two, four = (left(gain, strength) for strength in (1, 2, 4))
    assert four < two < one < 0.05


def test_strength_zero_is_the_reference_bit_for_bit(tmp_path):
    noise, rng = protocol.noise_of_gain(1), np.random.default_rng(1)
    frames = noise.sample(np.broadcast_to(GREY, (3, *GREY.shape)), rng)
    files = write_frames(tmp_path, frames, noise, Camera(), datetime(2026, 1, 1), "flat")
    options = Options(tmp_path, formats=("dng",), reference="IMG_0001.dng", strength=0)
    out = read_info(denoise.denoise(files, options).outputs["dng"])
    before = read_info(files[1])
    scale = before.white - before.black[0]
    restored = np.rint(read_planes(out) * scale + before.black[0]).astype(np.uint16)
    np.testing.assert_array_equal(restored, bayer.pack(read_mosaic(before), before.phase))
