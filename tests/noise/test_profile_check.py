"""Understated noise is found in flat areas, and distinguished from texture and motion."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch
from pictures import planes

from kpn_cli.align import alignment
from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.merge import merge
from kpn_cli.network.weights import load_weights
from kpn_cli.noise import profile_check
from kpn_cli.noise.profile_check import observed_sigma_ratio

_NOISE = NoiseModel.uniform(2e-3, 2e-5)


def _frames(scenes: list[np.ndarray], seed: int = 0) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [Frame(torch.from_numpy(_NOISE.sample(scene, rng))) for scene in scenes]


def _ratio(frames: list[Frame], stated: float) -> float:
    """The ratio that frames show which did not move."""
    still = alignment.align_frames(frames[:1], _NOISE) * len(frames)
    return observed_sigma_ratio(frames, still, _NOISE.with_strength(stated))


def _flat(level: float = 0.2, side: int = 600) -> np.ndarray:
    return np.full((4, side, side), level, np.float32)


def _texture(contrast: float, seed: int = 0, side: int = 600) -> np.ndarray:
    """As fine as noise, alike all over and in all planes."""
    texture = np.random.default_rng(seed).standard_normal((side, side), dtype=np.float32)
    return 0.3 + contrast * np.broadcast_to(texture, (4, side, side)).clip(-2, 2)


def _sigma(level: float) -> float:
    return float(np.sqrt(2e-3 * level + 2e-5))


# --- helpers ----------------------------------------------------------------


def test_the_variance_of_blocks_equals_numpy_s():
    planes = np.random.default_rng(0).standard_normal((3, 17, 25))
    found = profile_check._block_variance(torch.from_numpy(planes)).numpy()
    side = profile_check._BLOCK_SIDE
    for plane, row, column in itertools.product(range(3), range(2), range(3)):
        rows, columns = (slice(side * n, side * (n + 1)) for n in (row, column))
        expected = planes[plane, rows, columns].var(ddof=1)
        assert found[plane, row, column] == pytest.approx(expected)
    assert found.shape == (3, 2, 3)


# --- noise ------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, 8])
@pytest.mark.parametrize("stated", [0.55, 0.7, 0.9])
@pytest.mark.parametrize("level", [0.01, 0.2, 0.8])
def test_understated_noise_is_found(level, stated, count):
    shown = _ratio(_frames([_flat(level)] * count), stated)
    assert shown == pytest.approx(1 / stated, rel=0.03)


@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("stated", [1, 1.3, 2, 4])
def test_a_model_that_states_enough_is_accepted(stated, count):
    assert _ratio(_frames([_flat()] * count), stated) <= 1.02


def test_the_ratio_is_never_above_2():
    assert _ratio(_frames([_flat()] * 4), 0.1) == 2


@pytest.mark.parametrize("stated", [0.7, 1])
@pytest.mark.parametrize(
    "gains", [(1, 2, 2, 2), (1, 1.4, 1.4, 1.4), (1, 0.7, 0.7, 0.7), (1, 0.5, 2.5, 0.5)]
)
def test_frames_brought_to_the_reference_s_exposure_have_other_noise(gains, stated):
    rng = np.random.default_rng(0)
    frames = [
        Frame(torch.from_numpy(_NOISE.sample(_flat(0.2 / gain), rng)), gain=gain) for gain in gains
    ]
    assert _ratio(frames, stated) == pytest.approx(1 / stated, rel=0.03)


@pytest.mark.parametrize("count", [4, 5])
def test_noise_is_found_beside_areas_clipped_at_black(count):
    """A third of the picture is black."""
    scene = _flat()
    scene[:, :200] = 0
    frames = [Frame(frame.samples.clamp_min(0)) for frame in _frames([scene] * count)]
    assert _ratio(frames, 0.6) == pytest.approx(1 / 0.6, rel=0.03)


def test_noise_is_found_beside_areas_clipped_at_white():
    scene = _flat()
    scene[:, 200:] = 1.5
    frames = [
        Frame(frame.samples.clamp_max(1) / gain, gain=gain)
        for frame, gain in zip(_frames([scene] * 4), (1, 0.8, 0.8, 0.8), strict=True)
    ]
    assert _ratio(frames, 0.6) > 1.3


# --- other differences ------------------------------------------------------


@pytest.mark.parametrize("sigmas", [0.5, 1, 2, 10])
def test_texture_misaligned_by_a_third_of_a_cell_does_not_pass_for_noise(sigmas):
    scene = _texture(sigmas * _sigma(0.3))
    scenes = [scene] + [scene + (np.roll(scene, 1, 2) - scene) * part for part in (1 / 3, 0.3, 0.4)]
    assert _ratio(_frames(scenes), 1) <= 1.02


def test_flicker_of_flat_areas_does_not_pass_for_noise():
    scenes = [_flat(), *[_flat(0.2 * light) for light in (1.1, 0.9, 1.05)]]
    assert _ratio(_frames(scenes), 1) <= 1.03


@pytest.mark.parametrize("sigmas", [1, 3])
def test_waves_that_cover_the_picture_do_not_pass_for_noise(sigmas):
    """In every frame others, of some cells: they differ as noise does, but are not white."""
    rng = np.random.default_rng(0)
    scenes = []
    for _ in range(4):
        waves = cv2.GaussianBlur(rng.standard_normal((600, 600), dtype=np.float32), (0, 0), 1.5)
        scenes.append(_flat(0.3) + sigmas * _sigma(0.3) * waves / waves.std())
    assert _ratio(_frames(scenes), 1) <= 1.05


def test_banding_does_not_pass_for_noise():
    rng = np.random.default_rng(0)
    bands = rng.standard_normal((4, 1, 600, 1), dtype=np.float32) * _sigma(0.2)
    assert _ratio(_frames([_flat() + band for band in bands]), 1) <= 1.02


def test_the_best_aligned_frame_decides():
    """All but one show something else; that one shows twice the stated variance."""
    other = [_texture(0.1, seed) for seed in range(3)]
    scenes = [_flat(), *other, _flat()]
    assert _ratio(_frames(scenes), 0.5**0.5) == pytest.approx(2**0.5, rel=0.03)


@pytest.mark.parametrize(
    ("scenes", "why"),
    [
        ([_flat()] * 3, "it might be grain, misaligned by half a cell"),
        ([_flat(0.999)] * 4, "clipped"),
        ([_flat(side=4)] * 4, "too small"),
        ([_flat(side=40)] * 4, "too few blocks"),
    ],
)
def test_without_enough_flat_blocks_the_ratio_is_1(scenes, why):
    assert _ratio(_frames(scenes), 0.6) == 1, why


def _textured(contrast: float) -> np.ndarray:
    """Texture everywhere, of a contrast that grows from left to right."""
    scene = _texture(1.0)
    return np.float32(0.3) + (scene - 0.3) * np.linspace(
        contrast / 4, contrast, 600, dtype=np.float32
    )


@pytest.mark.parametrize("sigmas", [3, 10])
def test_on_a_tripod_understated_noise_is_found_without_flat_areas(sigmas):
    scene = _textured(sigmas * _sigma(0.3))
    assert _ratio(_frames([scene] * 4), 0.6) == pytest.approx(1 / 0.6, rel=0.03)
    assert _ratio(_frames([scene] * 4), 1) <= 1.02


@pytest.mark.parametrize("part", [0.05, 0.1, 0.3])
def test_texture_that_is_misaligned_does_not_pass_for_noise_where_it_varies(part):
    scene = _textured(5 * _sigma(0.3))
    others = [scene + (np.roll(scene, 1, 2) - scene) * part] * 3
    assert _ratio(_frames([scene, *others]), 1) <= 1.03


@pytest.mark.parametrize("observed", [None, 2.0])
def test_told_half_the_sigma_a_tripod_burst_is_merged_as_if_told_the_truth(observed):
    network, _ = load_weights()
    scene = planes(3, 160, 160)
    scene[:, :, 80:] = 0.2
    frames = _frames([scene] * 6)
    still = alignment.align_frames(frames[:1], _NOISE) * 6
    errors = [
        np.mean((merge.denoise_frames(network, frames, still, *how).planes - scene) ** 2)
        for how in ((_NOISE,), (_NOISE.with_strength(0.5),))
    ]
    assert errors[1] < 1.03 * errors[0]
    given = merge.denoise_frames(
        network, frames, still, _NOISE.with_strength(0.5), observed=observed
    )
    assert np.mean((given.planes - scene) ** 2) < 1.03 * errors[0]


def test_understating_the_noise_causes_no_fallback(monkeypatch):
    """Without the check a fifth of this picture would be the reference, at 0.8 of the sigma."""
    network, _ = load_weights()
    scene = planes(3, 160, 160)
    scene[:, :, 80:] = 0.2
    frames = _frames([scene] * 6)
    shifts = alignment.align_frames(frames, _NOISE)
    stated = _NOISE.with_strength(0.8)

    def denoised() -> tuple[float, float]:
        done = merge.denoise_frames(network, frames, shifts, stated)
        return done.fallback_share, float(np.square(done.planes - scene).mean())

    back, error = denoised()
    assert back < 0.01
    monkeypatch.setattr(merge, "observed_sigma_ratio", lambda *_: 1.0)
    back_before, error_before = denoised()
    assert back_before > 0.05
    assert error < 0.8 * error_before
