"""What a sensor makes of noiseless frames."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpn_cli.image.noise_model import NoiseModel, typical_log_read
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.sensor import capture, draw_colours, draw_noise, undo_white_balance

CONFIG = SynthConfig(cells=16)
#: Nothing left to chance but the place in the photo.
STILL = SynthConfig(
    cells=16, full=1, static=1, partly=0, rough=0, turning=0, softer=0, moving=0, parallax=0,
    torn=0, mixed=0, clipped=0, quantised=0, row_noise=0, defects=0, bracket=0, uneven=0,
    misjudged=0,
)  # fmt: skip
#: log10 S so low that the noise vanishes.
NOISELESS = {"shot_range": (-14.0, -14.0)}


def flat_planes(level, count=2, side=64):
    return np.full((count, 4, side, side), level, np.float32)


# --- colour -----------------------------------------------------------------


def test_below_the_highlights_undoing_white_balance_divides_red_and_blue(rng):
    planes = rng.random((3, 4, 5, 5), np.float32) * np.float32(0.9)
    raw = undo_white_balance(planes, 2.0, 1.5)
    gains = np.float32([1 / 2, 1, 1, 1 / 1.5])[:, None, None]
    np.testing.assert_allclose(raw, planes * gains, rtol=1e-6)


def test_highlights_stay_white():
    white = flat_planes(1, side=3)
    np.testing.assert_allclose(undo_white_balance(white, 2.4, 1.2), white, rtol=1e-6)


def test_between_grey_and_white_red_rises_monotonically_and_is_never_amplified():
    levels = np.linspace(0, 1, 201, dtype=np.float32)
    planes = np.broadcast_to(levels, (1, 4, 1, 201))
    raw = undo_white_balance(planes, 2.0, 2.0)
    assert (np.diff(raw) >= 0).all()
    assert (raw <= planes + 1e-6).all()
    assert np.array_equal(raw[:, 1:3], planes[:, 1:3])


@given(st.integers(0, 2**32))
def test_a_camera_s_colours_keep_white_and_stay_within_the_photo_s(seed):
    matrix = draw_colours(np.random.default_rng(seed), dataclasses.replace(STILL, mixed=1))
    np.testing.assert_allclose(matrix.sum(1), 1)
    assert (matrix >= 0).all()
    assert (matrix.argmax(1) == (0, 1, 2)).all()
    assert np.linalg.cond(matrix) < 10  # no colour is lost
    assert draw_colours(np.random.default_rng(seed), STILL) is None


# --- noise ------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 0.1, 0.6])
def test_the_noise_of_a_burst_has_the_variance_it_is_labelled_with(rng, level):
    config = dataclasses.replace(STILL, shot_range=(-3.0, -1.5))
    for _ in range(4):
        patch = capture(flat_planes(level, side=100), rng, config)
        noise = (patch.burst - patch.target).astype(np.float64)
        expected = patch.noise.variance(patch.target[:, :1, :1])[:, 0, 0]
        # 10,000 samples: a variance is known to within 1.4 %; eight of them at four sigma.
        for frame in noise:
            np.testing.assert_allclose(frame.var((1, 2)), expected, rtol=0.06)
        assert abs((noise[0] * noise[1]).mean() / expected.mean()) < 0.025


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_the_fast_noise_has_the_variance_of_the_noise_model(seed):
    """Same variance at every signal as `NoiseModel.sample`, over a ramp of signals."""
    ramp = np.broadcast_to(np.linspace(0, 1, 100, dtype=np.float32), (1, 4, 100, 100))
    rng = np.random.default_rng(seed)
    patch = capture(ramp, rng, dataclasses.replace(STILL, shot_range=(-4.0, -1.5)))
    oracle = patch.noise.sample(patch.target, rng) - patch.target
    ours = patch.burst[0] - patch.target
    # Ten ranges of signal of 4000 samples each: their ratio is known to 3.2 %.
    ratio = np.square(ours).mean((0, 1)) / np.square(oracle).mean((0, 1))
    ranges = np.log(ratio).reshape(10, 10).mean(1)
    np.testing.assert_allclose(ranges, 0, atol=0.14)


def test_noise_levels_span_their_range_and_lean_towards_the_noisy():
    rng = np.random.default_rng(0)
    config = SynthConfig()
    models = [draw_noise(rng, config) for _ in range(4000)]
    log_shot = np.log10([model.shot[0] for model in models])
    low, high = config.shot_range
    assert low == -6  # cameras at base ISO
    assert high > np.log10(4e-2)  # beyond the protocol's gain 8
    assert low <= log_shot.min() < low + 0.1
    assert high - 0.1 < log_shot.max() <= high
    share = (high - config.noisy_from) / (high - low)
    expected = config.noisy + (1 - config.noisy) * share
    assert np.mean(log_shot > config.noisy_from) == pytest.approx(expected, abs=0.03)
    scatter = np.log10([model.read[0] for model in models]) - typical_log_read(log_shot)
    assert scatter.std() == pytest.approx(0.4, abs=0.02)


def test_the_noise_of_one_camera_lies_on_its_line():
    rng = np.random.default_rng(0)
    config = dataclasses.replace(STILL, noise_levels=((1e-3, 1e-5), (1e-5, 1e-8), (1e-4, 1e-7)))
    models = [draw_noise(rng, config) for _ in range(300)]
    shots = np.log10([model.shot for model in models])
    reads = np.log10([model.read for model in models])
    assert -5 <= shots.min() < -4.97
    assert -3.03 < shots.max() <= -3
    np.testing.assert_allclose(reads, np.interp(shots, [-5, -4, -3], [-8, -7, -5]), atol=1e-9)
    assert np.mean(shots < -4) == pytest.approx(0.5, abs=0.1)


def test_a_single_noise_level_applies_to_all_bursts(rng):
    config = dataclasses.replace(STILL, noise_levels=((1e-3, 0.0),))
    model = draw_noise(rng, config)
    assert model.shot == pytest.approx([1e-3] * 4)
    assert max(model.read) < 1e-11


def test_a_misjudged_sigma_is_up_to_four_times_off():
    assumed, true = (
        np.array(
            [
                capture(
                    flat_planes(0.3, 1, 4), np.random.default_rng(seed),
                    dataclasses.replace(STILL, misjudged=chance),
                ).noise.shot[0] ** 0.5
                for seed in range(300)
            ]
        )
        for chance in (1, 0)
    )  # fmt: skip
    factors = assumed / true
    assert 1 / 4 <= factors.min() < 0.27
    assert 3.7 < factors.max() <= 4
    assert abs(np.log(factors).mean()) < 0.15


def test_row_noise_is_alike_along_a_row_of_the_sensor_and_differs_between_frames():
    config = dataclasses.replace(STILL, row_noise=1, shot_range=(-4.0, -4.0))
    ratios = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        patch = capture(flat_planes(0.0, 4, 64), rng, config)
        noise = patch.burst - patch.target
        sensor_rows = np.stack([noise[:, :2].mean((1, 3)), noise[:, 2:].mean((1, 3))])
        extra = sensor_rows.var() - noise.var() / 128
        ratios.append(extra / patch.noise.read[0])
        assert abs(np.corrcoef(sensor_rows[0, 0], sensor_rows[0, 1])[0, 1]) < 0.5
    # The square of a sigma drawn evenly between 0.1 and 0.5 of the read noise's.
    assert 0.005 < min(ratios) < max(ratios) < 0.4


def test_defects_are_in_every_frame_and_not_in_the_target():
    config = dataclasses.replace(STILL, defects=1, **NOISELESS)
    number = 0
    for seed in range(20):
        patch = capture(flat_planes(0.1, 3, 64), np.random.default_rng(seed), config)
        glowing = patch.burst > patch.target.max() + 0.01
        counts = glowing.sum((1, 2, 3))
        number += counts[0]
        assert counts.max() <= 60
        if counts[0]:
            assert counts[1:].min() > 0 or counts[0] < 5
        assert (patch.target < 0.11).all()
    assert number > 5


# --- exposure ---------------------------------------------------------------


def test_the_target_is_the_reference_without_noise(rng):
    planes = rng.random((3, 4, 16, 16), np.float32)
    patch = capture(planes, rng, dataclasses.replace(STILL, **NOISELESS))
    np.testing.assert_allclose(patch.burst[0], patch.target, atol=1e-5)


def test_the_target_has_no_sensor_faults_and_is_no_brighter_than_white():
    planes = np.random.default_rng(0).random((2, 4, 16, 16), np.float32)
    faults = dict.fromkeys(("clipped", "quantised", "row_noise", "defects", "bracket"), 1)
    plain, faulty = (
        capture(planes, np.random.default_rng(1), dataclasses.replace(STILL, **f))
        for f in ({}, faults)
    )
    assert np.array_equal(plain.target, faulty.target)
    assert plain.target.max() <= plain.white
    assert not np.array_equal(plain.burst, faulty.burst)


def test_white_levels_span_a_tenth_to_one(rng):
    white = [capture(flat_planes(0.5, 1, 2), rng, STILL).white for _ in range(500)]
    assert 0.1 <= min(white) < 0.12
    assert 0.85 < max(white) <= 1


def test_clipped_frames_end_at_white_and_others_do_not():
    noisy = {"shot_range": (-1.5, -1.5)}
    clipped, free = (
        [
            capture(
                flat_planes(1.0), np.random.default_rng(seed),
                dataclasses.replace(STILL, clipped=chance, **noisy),
            ).burst
            for seed in range(8)
        ]
        for chance in (1, 0)
    )  # fmt: skip
    assert max(float(burst.max()) for burst in clipped) == 1
    assert max(float(burst.max()) for burst in free) > 1


def test_quantised_frames_hold_whole_numbers_of_a_sensor(rng):
    for _ in range(8):
        burst = capture(flat_planes(0.3), rng, dataclasses.replace(STILL, quantised=1)).burst
        off = [
            np.abs(burst * n - np.rint(burst * n)).max() for n in (2**b - 1 for b in range(10, 15))
        ]
        assert min(off) < 2e-3


def test_quantisation_is_to_10_to_14_bits_and_to_the_nearest_number():
    found = set()
    for seed in range(60):
        fine, coarse = (
            capture(
                flat_planes(0.3), np.random.default_rng(seed),
                dataclasses.replace(STILL, quantised=chance),
            ).burst
            for chance in (0, 1)
        )  # fmt: skip
        errors = {
            bits: np.abs(coarse * (2**bits - 1) - np.rint(coarse * (2**bits - 1))).max()
            for bits in range(8, 17)
        }
        bits = min(bits for bits, error in errors.items() if error < 2e-3)
        found.add(bits)
        off = (coarse - fine) * (2**bits - 1)
        assert np.abs(off).max() <= 0.51
        assert abs(off.mean()) < 0.1
    assert found == {10, 11, 12, 13, 14}


def test_planes_of_one_row_of_the_sensor_share_its_noise():
    """Red and the first green lie in one, the second green and blue in the next."""
    config = dataclasses.replace(STILL, row_noise=1, shot_range=(-4.0, -4.0))
    together = np.zeros((4, 4))
    for seed in range(20):
        patch = capture(flat_planes(0.0, 4, 64), np.random.default_rng(seed), config)
        rows = (patch.burst - patch.target).mean(3).transpose(1, 0, 2).reshape(4, -1)
        together += np.cov(rows) / patch.noise.read[0]
    shared = (together[0, 1] + together[2, 3]) / 2
    others = together[:2, 2:]
    assert shared > 0
    assert np.abs(others).max() < 0.25 * shared


def test_capturing_leaves_its_input_unchanged(rng):
    planes = flat_planes(0.5, side=8)
    capture(planes, rng, SynthConfig(clipped=1, quantised=1, row_noise=1, defects=1))
    assert np.array_equal(planes, flat_planes(0.5, side=8))


def test_a_signal_of_zero_is_as_noisy_as_the_read_noise_alone(rng):
    patch = capture(flat_planes(0.0, 2, 100), rng, STILL)
    read = NoiseModel(patch.noise.shot, patch.noise.read).read[0]
    assert patch.burst.var() == pytest.approx(read, rel=0.05)


def test_read_noise_follows_shot_noise_through_the_cameras_medians():
    # docs: median green channel of 433 models at ISO 800 and 3200; the paper's gain 1.
    for shot, read in ((1.8e-5, 3.9e-8), (6.7e-5, 2.7e-7), (2.704e-3, 4.672e-5)):
        assert typical_log_read(np.log10(shot)) == pytest.approx(np.log10(read), abs=0.4)


# --- targets and faults -----------------------------------------------------


def weakened(**changes):
    """A patch whose assumed sigma is clearly below the true one, and the true noise."""
    model = NoiseModel.uniform(1e-3, 1e-5)
    config = dataclasses.replace(STILL, misjudged=1, **changes)
    for seed in range(100):
        patch = capture(flat_planes(0.9, 3, 32), np.random.default_rng(seed), config, model)
        if patch.noise.shot[0] < 0.25 * model.shot[0]:
            return patch, model
    raise AssertionError("no strength below 1/2 was drawn")


def test_below_strength_one_the_target_keeps_the_noise_that_the_reference_has():
    patch, _ = weakened()
    kept, noise = (x - np.median(x) for x in (patch.target, patch.burst[0]))
    assert np.corrcoef(kept.ravel(), noise.ravel())[0, 1] > 0.9


def test_a_target_asks_for_no_noise_above_white_where_frames_clip():
    patch, _ = weakened(clipped=1)
    assert patch.target.max() <= 1


def test_every_frame_of_a_bracket_is_assumed_as_wrong_as_the_reference():
    patch, model = weakened(bracket=1)
    factor = patch.noise.shot[0] / model.shot[0]
    assert patch.frame_noise[0].shot == pytest.approx(patch.noise.shot)
    for frame, clip in zip(patch.frame_noise, patch.clip, strict=True):
        gain = 1 / clip  # by exposure time alone: S / g
        if abs(frame.shot[0] - factor * model.shot[0] / gain) < 1e-9:
            return
    raise AssertionError("no frame has the assumed noise of its exposure")


def test_dead_samples_are_dark_in_a_frame_and_not_in_the_target():
    config = dataclasses.replace(STILL, defects=1, **NOISELESS)
    dead = 0
    for seed in range(40):
        patch = capture(flat_planes(0.9, 3, 64), np.random.default_rng(seed), config)
        dark = patch.burst[0] < 0.5 * patch.target
        assert np.ptp(patch.target, (1, 2)).max() < 1e-6
        dead += int(dark.sum())
    assert dead > 5
