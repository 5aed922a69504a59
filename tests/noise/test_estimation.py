from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch

from kpn_cli.align.block_matching import Aligner, stabilise
from kpn_cli.align.warp import warp_planes
from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.noise.estimation import (
    cut_blocks,
    from_iso,
    measure_blocks,
    measure_burst_blocks,
    sigma_ratio,
)
from kpn_cli.raw import reader
from kpn_cli.synthesis import photos, protocol

SHARED = Path(__file__).parents[3] / "shared"
PHOTOS = SHARED / "photos" / "val"
PI_STATIC = SHARED / "raw" / "pi-static"

#: Sigma's tolerance on synthetic scenes of 200x300 cells. Some 2000 blocks of 17 independent
#: samples in 12 groups, of which the flattest tenth and more count: 12 * 17 * 17 samples
#: a plane tell the variance to 2.4 %, the fit's extrapolation and envelope triple it at most;
#: half of that for sigma, three times for three standard deviations.
TOLERANCE = 0.12


def ramps(low: float = 0.02, high: float = 0.4, size: tuple[int, int] = (200, 300)) -> np.ndarray:
    """A scene of smooth gradients: `(4, rows, columns)` float32."""
    rows, columns = size
    ramp = np.linspace(low, high, columns)[None, :] * np.linspace(1, 0.8, rows)[:, None]
    return np.float32([0.6, 1, 1, 0.7])[:, None, None] * ramp.astype(np.float32)


def flat_burst(scene: np.ndarray, noise: NoiseModel, count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [noise.sample(scene, rng) for _ in range(count)]


def blocks_of(planes: np.ndarray) -> np.ndarray:
    return cut_blocks(*planes.shape[1:], lambda rows: planes[:, rows])


def measure_frame(planes: np.ndarray) -> NoiseModel:
    return measure_blocks(blocks_of(planes))


def measure_burst(reference: np.ndarray, others: Iterable[np.ndarray]) -> NoiseModel:
    cuts = [partial(blocks_of, other) for other in others]
    return measure_burst_blocks(blocks_of(reference), cuts)


def close_to(noise: NoiseModel, signals: tuple[float, ...] = (0.05, 0.18, 0.3)) -> object:
    """What a fit to `noise` should be: sigma at some signals, as ratios to the truth."""

    class Near:
        def __eq__(self, fit: object) -> bool:
            ratios = [sigma_ratio(fit, noise, signal) for signal in signals]
            return bool(np.all(np.abs(np.log(ratios)) < TOLERANCE))

        def __repr__(self) -> str:
            return f"{noise} within {TOLERANCE:.0%}"

    return Near()


# --- from the sensitivity -------------------------------------------------------------


@pytest.mark.parametrize(("iso", "shot", "read"), [(100, 3.2e-6, 2.8e-9), (3200, 6.7e-5, 2.7e-7)])
def test_iso_of_the_table_gives_its_row(iso, shot, read):
    noise = from_iso(iso)
    assert noise.shot == pytest.approx((shot,) * 4)
    assert noise.read == pytest.approx((read,) * 4)


def test_noise_grows_with_iso_also_beyond_the_table():
    sigmas = [
        from_iso(iso).variance(np.full((4, 1, 1), 0.18)).mean() for iso in 25 * 2.0 ** np.arange(15)
    ]
    assert np.all(np.diff(sigmas) > 0)


@pytest.mark.parametrize("iso", [0, -100, float("nan"), float("inf")])
def test_an_impossible_iso_is_refused(iso):
    with pytest.raises(KpnError, match="--noise S,O"):
        from_iso(iso)


# --- sigma_ratio ----------------------------------------------------------------------


def test_the_sigma_ratio_equals_the_strength():
    noise = NoiseModel((1e-3, 2e-3, 3e-3, 4e-3), (1e-5, 0, 2e-5, 3e-5))
    assert sigma_ratio(noise.with_strength(1.7), noise) == pytest.approx(1.7)
    assert sigma_ratio(noise, noise.with_strength(2), 0.01) == pytest.approx(0.5)


# --- measuring synthetic frames -------------------------------------------------------


@pytest.mark.parametrize("gain", protocol.GAINS)
def test_noise_of_a_smooth_scene_is_found_at_every_gain(gain):
    noise = protocol.noise_of_gain(gain)
    reference, *others = flat_burst(ramps(), noise, 4)
    assert measure_burst(reference, others) == close_to(noise)
    assert measure_frame(reference) == close_to(noise)


def test_in_a_large_scene_the_variance_is_all_but_unbiased():
    # 10 000 blocks: sampling error is below 1 %. The envelope lies low by 1 or 2 %.
    noise = protocol.noise_of_gain(1)
    reference, *others = flat_burst(ramps(size=(800, 800)), noise, 3)
    for fit in (measure_burst(reference, others), measure_frame(reference)):
        assert sigma_ratio(fit, noise, 0.1) == pytest.approx(0.99, abs=0.015)


def test_the_best_fit_is_found_where_the_picture_is_dark():
    # With gain 4 the points of this scene once led the search to S of a third and below.
    noise = protocol.noise_of_gain(4)
    for seed in range(4):
        reference, *others = flat_burst(ramps(0, 0.08), noise, 4, seed)
        assert sigma_ratio(measure_burst(reference, others), noise) == pytest.approx(1, abs=0.1)


def test_each_plane_gets_its_own_noise():
    noise = NoiseModel((2e-3, 1e-3, 1e-3, 3e-3), (1e-5,) * 4)
    reference, *others = flat_burst(ramps(), noise, 8)
    fit = measure_burst(reference, others)
    for plane in range(4):
        one = [NoiseModel.uniform(m.shot[plane], m.read[plane]) for m in (fit, noise)]
        assert sigma_ratio(*one) == pytest.approx(1, abs=TOLERANCE)


def test_the_same_frames_give_the_same_model():
    reference, *others = flat_burst(ramps(), protocol.noise_of_gain(1), 3)
    assert measure_burst(reference, others) == measure_burst(reference, iter(others))
    assert measure_frame(reference) == measure_frame(reference.copy())


def test_a_burst_of_one_is_measured_as_a_frame():
    (reference,) = flat_burst(ramps(), protocol.noise_of_gain(1), 1)
    assert measure_burst(reference, []) == measure_frame(reference)


def test_texture_that_does_not_fill_the_picture_is_ignored():
    noise = protocol.noise_of_gain(0)
    scene = ramps()
    rng = np.random.default_rng(1)
    scene[:, :, 50:200] *= rng.uniform(0.3, 1.7, scene[0, :, 50:200].shape).astype(np.float32)
    moved = np.roll(scene, 1, axis=2)
    frames = flat_burst(scene, noise, 1) + flat_burst(moved, noise, 3, seed=2)
    assert measure_burst(frames[0], frames[1:]) == close_to(noise)
    assert measure_frame(frames[0]) == close_to(noise)


def test_a_moving_object_and_flicker_do_not_pass_for_noise():
    noise = protocol.noise_of_gain(1)
    rng = np.random.default_rng(3)
    frames = []
    for number in range(6):
        scene = ramps() * np.float32(1 + 0.01 * (-1) ** number)
        place = 40 * number
        scene[:, 60:120, place : place + 60] = rng.uniform(0, 1, (60, 60))
        frames.append(noise.sample(scene, rng))
    assert measure_burst(frames[0], frames[1:]) == close_to(noise)


def test_hot_pixels_do_not_pass_for_noise():
    noise = protocol.noise_of_gain(0)
    (frame,) = flat_burst(ramps(), noise, 1)
    hot = np.random.default_rng(4).random(frame.shape) < 2e-4
    frame[hot] = 0.9
    assert measure_frame(frame) == close_to(noise)


def test_a_border_copied_by_the_alignment_does_not_lower_the_noise():
    noise = protocol.noise_of_gain(1)
    reference, other = flat_burst(ramps(), noise, 2)
    other[:, :60] = other[:, 60:61]
    other[..., -64:] = other[..., -65:-64]
    assert measure_burst(reference, [other]) == close_to(noise)


@pytest.mark.parametrize(("saturation", "gain"), [(1.0, 1), (0.7, 1), (1.0, 8)])
def test_clipped_highlights_and_shadows_are_left_out(saturation, gain):
    noise = protocol.noise_of_gain(gain)
    # Gain 8 clips all that is darker.
    signals = (0.18, 0.3) if gain == 8 else (0.05, 0.18, 0.3)
    frames = [frame.clip(0, saturation) for frame in flat_burst(ramps(-0.1, 1.4).clip(0), noise, 4)]
    assert measure_burst(frames[0], frames[1:]) == close_to(noise, signals)
    assert measure_frame(frames[0]) == close_to(noise, signals)


def test_ten_bits_are_enough():
    noise = protocol.noise_of_gain(0)  # sigma at 18 % grey is 3.6 steps
    frames = [(frame * 1023).round() / 1023 for frame in flat_burst(ramps(), noise, 4)]
    assert measure_burst(frames[0], frames[1:]) == close_to(noise)


@pytest.mark.parametrize(("low", "high"), [(0, 0.002), (0.01, 0.011), (0.3, 0.31)])
def test_a_narrow_range_of_signals_still_gives_the_noise_of_grey(low, high):
    # Cameras' O scatter by 0.4 decades about the line that then divides S from O,
    # a factor of 2.5 in variance; gain 1 lies 0.03 decades off it.
    noise = protocol.noise_of_gain(1)
    reference, *others = flat_burst(ramps(low, high), noise, 4)
    for fit in (measure_burst(reference, others), measure_frame(reference)):
        assert min(fit.shot + fit.read) > 0
        assert 1 / 1.6 < sigma_ratio(fit, noise) < 1.6


@pytest.mark.parametrize("level", [0.0, 0.25, 1.0, 1.2])
def test_a_blank_or_clipped_frame_is_refused(level):
    blank = np.full((4, 40, 60), level, np.float32)
    for measure in (lambda: measure_frame(blank), lambda: measure_burst(blank, [blank, blank])):
        with pytest.raises(KpnError, match="--noise S,O"):
            measure()


def test_a_frame_clipped_all_over_is_refused():
    noise = protocol.noise_of_gain(1)
    (frame,) = flat_burst(np.full((4, 60, 60), 1.5, np.float32), noise, 1)
    with pytest.raises(KpnError, match="blank or clipped"):
        measure_frame(frame.clip(0, 1))


def test_frames_identical_to_the_reference_are_refused():
    (frame,) = flat_burst(ramps(), protocol.noise_of_gain(1), 1)
    with pytest.raises(KpnError, match="--noise S,O"):
        measure_burst(frame, [frame])


def test_a_frame_too_small_is_refused():
    with pytest.raises(KpnError, match="at least 10x10"):
        measure_frame(np.zeros((4, 9, 50), np.float32))


# --- measuring photos and real raws ---------------------------------------------------


@cache
def clean_burst(path: Path, white: float) -> np.ndarray:
    shifts = protocol.draw_camera_shifts(np.random.default_rng(6), 3)
    return protocol.photograph(photos.load_scene(path), shifts, white)


def aligned_burst(path: Path, white: float, noise: NoiseModel) -> list[np.ndarray]:
    """A burst of the protocol's, aligned with a noise model that is 30 % off, as a first guess."""
    rng = np.random.default_rng(7)
    clean = clean_burst(path, white)
    reference, *others = (torch.from_numpy(noise.sample(planes, rng)) for planes in clean)
    guess = noise.with_strength(1.3)
    aligner = Aligner(stabilise(reference, guess))
    everything = (slice(0, reference.shape[1]), slice(0, reference.shape[2]))
    moved = [warp_planes(f, aligner.align(stabilise(f, guess)), *everything) for f in others]
    return [planes.numpy() for planes in (reference, *moved)]


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs ../shared")
@pytest.mark.parametrize("gain", protocol.GAINS)
def test_noise_in_photos_is_found_to_a_tenth_from_bursts_and_a_quarter_from_frames(gain):
    # The photos' own grain is up to 1.4 times gain 0's noise, so there the median counts.
    noise = protocol.noise_of_gain(gain)
    paths = sorted(PHOTOS.iterdir())[::5]
    assert paths
    from_burst, from_frame = [], []
    for number, path in enumerate(paths):
        reference, *others = aligned_burst(path, protocol.WHITE_LEVELS[number % 3], noise)
        from_burst.append(sigma_ratio(measure_burst(reference, others), noise))
        from_frame.append(sigma_ratio(measure_frame(reference), noise))
    typical = np.median if gain == 0 else np.asarray
    assert typical(from_burst) == pytest.approx(1, abs=0.1)
    assert typical(from_frame) == pytest.approx(1, abs=0.25)


@pytest.fixture(scope="module")
def pi_static() -> np.ndarray:
    if not PI_STATIC.is_dir():
        pytest.skip("needs ../shared")
    files = sorted(PI_STATIC.glob("*.dng"))
    return np.stack([reader.read_planes(reader.read_info(path)) for path in files])


def test_a_static_real_burst_agrees_with_its_variance_over_time(pi_static):
    # The sensor's conversion gain is about 0.09 DN per electron, white 963 DN above black.
    noise = NoiseModel.uniform(0.09 / 963, 0.24 / 963**2)
    fit = measure_burst(pi_static[0], pi_static[1:])
    level = pi_static.mean((0, 2, 3))
    over_time = pi_static.var(0, ddof=1).mean((1, 2))
    for plane in range(4):
        predicted = fit.shot[plane] * level[plane] + fit.read[plane]
        assert predicted == pytest.approx(over_time[plane], rel=0.1)
    assert sigma_ratio(fit, noise) == pytest.approx(1, abs=0.1)
    assert np.array(fit.read) * 963**2 == pytest.approx(np.full(4, 0.28), abs=0.08)


def test_a_single_real_frame_agrees_with_the_burst(pi_static):
    burst = measure_burst(pi_static[0], pi_static[1:])
    single = measure_frame(pi_static[0])
    assert sigma_ratio(single, burst, 0.01) == pytest.approx(1, abs=0.1)
    assert sigma_ratio(single, burst) == pytest.approx(1, abs=0.25)
