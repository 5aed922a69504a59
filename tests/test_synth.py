"""Photo -> training burst."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import scene

from kpn_cli.noise import typical_read
from kpn_cli.synth import (
    SynthConfig,
    add_noise,
    draw_batch,
    draw_planes,
    expose,
    undo_white_balance,
)

CONFIG = SynthConfig(cells=16)
#: Nothing left to chance but the place in the photo.
STILL = SynthConfig(
    cells=16, full=1, static=1, partly=0, rough=0, turning=0, softer=0, moving=0,
    clipped=0, quantised=0,
)  # fmt: skip
#: log10 S so low that the noise vanishes.
NOISELESS = {"shot_range": (-14.0, -14.0)}


def tensors(batch):
    return [getattr(batch, field.name) for field in dataclasses.fields(batch)]


def flat_planes(level, batch=2, count=2, side=64):
    return torch.full((batch, count, 4, side, side), level)


# --- reproducibility and shapes ---------------------------------------------


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.integers(0, 10**6))
def test_the_same_seed_gives_the_same_bytes(scenes, seed, step):
    one, two = (draw_batch(scenes, (seed, step), 2, CONFIG) for _ in range(2))
    for a, b in zip(tensors(one), tensors(two), strict=True):
        assert torch.equal(a, b)


def test_different_seeds_and_steps_give_different_bursts(scenes):
    config = dataclasses.replace(CONFIG, full=1)
    bursts = [draw_batch(scenes, seed, 1, config).burst for seed in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(bursts[0], bursts[1])
    assert not torch.equal(bursts[0], bursts[2])
    assert not torch.equal(bursts[1], bursts[2])


def test_the_global_generators_of_numpy_and_torch_have_no_say(scenes):
    np.random.seed(1)
    torch.manual_seed(1)
    one = draw_batch(scenes, (3, 4), 1, CONFIG)
    np.random.seed(2)
    torch.manual_seed(2)
    assert torch.equal(one.burst, draw_batch(scenes, (3, 4), 1, CONFIG).burst)


@pytest.mark.parametrize("frames", range(1, 9))
def test_a_full_batch_has_the_announced_shape(scenes, frames):
    config = dataclasses.replace(CONFIG, frames=frames, full=1)
    batch = draw_batch(scenes, (0, frames), 3, config)
    assert batch.burst.shape == (3, frames, 4, 16, 16)
    assert batch.truth.shape == (3, 4, 16, 16)
    assert batch.shot.shape == batch.read.shape == (3, 4)
    assert batch.white.shape == (3,)
    for value in tensors(batch):
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all()


def test_batches_that_are_not_full_have_every_smaller_number_of_frames(scenes):
    config = dataclasses.replace(CONFIG, frames=4, full=0)
    counts = {draw_batch(scenes, (0, step), 1, config).burst.shape[1] for step in range(30)}
    assert counts == {1, 2, 3}


def test_a_batch_moves_to_a_device_whole(scenes):
    batch = draw_batch(scenes, (0, 0), 1, CONFIG)
    for a, b in zip(tensors(batch), tensors(batch.to(torch.device("cpu"))), strict=True):
        assert torch.equal(a, b)


# --- geometry ---------------------------------------------------------------


def test_on_a_tripod_all_frames_are_equal(scenes, rng):
    for _ in range(5):
        planes = draw_planes(scenes, rng, 8, STILL)
        assert planes.shape == (8, 4, 16, 16)
        assert planes.dtype == np.float32
        assert 0 <= planes.min() <= planes.max() <= 1
        assert (planes == planes[:1]).all()


def test_in_hand_no_frame_equals_the_reference(scenes, rng):
    config = dataclasses.replace(STILL, static=0, failed=0, off_by_one=0)
    equal = [
        (frame == planes[0]).all()
        for planes in (draw_planes(scenes, rng, 8, config) for _ in range(5))
        for frame in planes[1:]
    ]
    # A shift of zero photo pixels out of 5 x 5 is drawn now and then.
    assert np.mean(equal) < 0.15


def test_partly_aligned_bursts_have_both_kinds_of_frames(scenes, rng):
    config = dataclasses.replace(STILL, static=0, partly=1, failed=0, off_by_one=0)
    equal = [
        (frame == planes[0]).all()
        for planes in (draw_planes(scenes, rng, 8, config) for _ in range(10))
        for frame in planes[1:]
    ]
    assert 0.3 < np.mean(equal) < 0.8


def test_residual_shifts_keep_frames_alike_and_failures_do_not(scenes, rng):
    def unlikeness(**changes):
        config = dataclasses.replace(STILL, static=0, **changes)
        bursts = [draw_planes(scenes, rng, 8, config) for _ in range(8)]
        return np.mean([np.abs(burst[1:] - burst[:1]).mean() for burst in bursts])

    close = unlikeness(failed=0, off_by_one=0)
    assert close < 0.6 * unlikeness(failed=1, off_by_one=0)
    assert close < 0.8 * unlikeness(failed=0, off_by_one=1)


def test_patches_of_the_smallest_photo_do_not_leave_it(rng):
    side = CONFIG.photo_pixels
    smallest = [scene(0, side, side)]
    for _ in range(20):
        planes = draw_planes(smallest, rng, 2, dataclasses.replace(STILL, softer=0.5))
        # Mirrored pictures repeat their rows or columns about the border.
        assert len(np.unique(planes[0, 0], axis=0)) == 16
        assert len(np.unique(planes[0, 0], axis=1).T) == 16


def test_a_moving_object_changes_a_static_burst_in_places(scenes):
    config = dataclasses.replace(STILL, moving=1)
    shares = []
    for seed in range(20):
        planes = draw_planes(scenes, np.random.default_rng(seed), 8, config)
        assert 0 <= planes.min() <= planes.max() <= 1
        shares.append(np.mean(planes != planes[:1]))
    assert 0.05 < np.mean(shares) < 0.8


# --- white balance ----------------------------------------------------------


def test_below_the_highlights_undoing_white_balance_divides_red_and_blue():
    planes = torch.rand(2, 3, 4, 5, 5) * 0.9
    red, blue = torch.tensor([2.0, 1.5]), torch.tensor([1.2, 2.4])
    raw = undo_white_balance(planes, red, blue)
    for patch in range(2):
        gains = torch.tensor([1 / red[patch], 1, 1, 1 / blue[patch]])
        torch.testing.assert_close(raw[patch], planes[patch] * gains[:, None, None])


def test_highlights_stay_white():
    white = torch.ones(1, 1, 4, 3, 3)
    raw = undo_white_balance(white, torch.tensor([2.4]), torch.tensor([1.2]))
    torch.testing.assert_close(raw, white)


def test_between_grey_and_white_red_rises_steadily_and_never_above_what_it_was():
    levels = torch.linspace(0, 1, 201)
    planes = levels.expand(1, 4, 1, 201)
    raw = undo_white_balance(planes, torch.tensor([2.0]), torch.tensor([2.0]))
    assert (raw.diff(dim=-1) >= 0).all()
    assert (raw <= planes + 1e-6).all()
    assert torch.equal(raw[:, 1:3], planes[:, 1:3])


# --- exposure ---------------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 0.1, 0.6])
def test_the_noise_of_a_burst_has_the_variance_it_is_labelled_with(rng, level):
    config = dataclasses.replace(STILL, shot_range=(-3.0, -1.5))
    batch = expose(flat_planes(level, side=100), rng, config)
    signal = batch.truth[:, :, 0, 0].double()
    expected = batch.shot.double() * signal + batch.read.double()
    noise = batch.burst - batch.truth[:, None]
    # 10,000 samples: a variance is known to within 1.4 %; sixteen of them at four sigma.
    for frame in range(2):
        torch.testing.assert_close(
            noise[:, frame].double().var((-2, -1)), expected, rtol=0.06, atol=0
        )
    assert abs(float((noise[:, 0] * noise[:, 1]).mean() / expected.mean())) < 0.02


@settings(max_examples=20)
@given(st.floats(0, 1), st.floats(1e-6, 0.04), st.floats(1e-9, 1e-3))
def test_added_noise_has_the_variance_of_its_coefficients(level, shot, read):
    generator = torch.Generator().manual_seed(0)
    planes = flat_planes(level, 1, 1, 100)
    noisy = add_noise(planes, torch.full((1, 4), shot), torch.full((1, 4), read), generator)
    variance = float((noisy - planes).double().square().mean())
    assert variance == pytest.approx(shot * level + read, rel=0.05)


def test_every_patch_and_plane_has_its_own_coefficients():
    shot = torch.tensor([[1e-2, 2e-2, 3e-2, 4e-2], [4e-2, 3e-2, 2e-2, 1e-2]])
    read = torch.zeros(2, 4)
    noisy = add_noise(flat_planes(0.5), shot, read, torch.Generator().manual_seed(0))
    torch.testing.assert_close((noisy - 0.5).var((1, 3, 4)), shot * 0.5, rtol=0.1, atol=0)


def test_the_truth_is_the_reference_without_noise(scenes):
    config = dataclasses.replace(CONFIG, full=1, clipped=0, quantised=0, **NOISELESS)
    batch = draw_batch(scenes, (5, 6), 4, config)
    torch.testing.assert_close(batch.burst[:, 0], batch.truth, atol=1e-5, rtol=0)
    assert float(batch.truth.max()) > 0.02


def test_the_truth_is_neither_clipped_nor_quantised_nor_brighter_than_white(scenes):
    config = dataclasses.replace(CONFIG, clipped=1, quantised=1)
    batch = draw_batch(scenes, (5, 6), 4, config)
    plain = draw_batch(scenes, (5, 6), 4, CONFIG)
    assert torch.equal(batch.truth, plain.truth)
    assert (batch.truth.amax((1, 2, 3)) <= batch.white).all()


def test_white_levels_span_a_tenth_to_one(rng):
    white = expose(flat_planes(0.5, 500, 1, 1), rng, STILL).white
    assert 0.1 <= float(white.min()) < 0.12
    assert 0.85 < float(white.max()) <= 1


def test_clipped_frames_end_at_white_and_others_do_not(rng):
    bright = flat_planes(1.0, 8)
    noisy = {"shot_range": (-2.0, -2.0)}
    clipped = expose(bright, rng, dataclasses.replace(STILL, clipped=1, **noisy))
    assert float(clipped.burst.max()) == 1
    free = expose(bright, rng, dataclasses.replace(STILL, clipped=0, **noisy))
    assert float(free.burst.max()) > 1
    assert float(free.burst.min()) < float(free.white.min())


def test_quantised_frames_hold_whole_numbers_of_a_sensor(rng):
    batch = expose(flat_planes(0.3, 8), rng, dataclasses.replace(STILL, quantised=1))
    for patch in batch.burst:
        fitting = [
            bits
            for bits in range(10, 15)
            if torch.allclose(
                patch * (2**bits - 1), (patch * (2**bits - 1)).round(), atol=2e-3, rtol=0
            )
        ]
        assert fitting


def test_exposing_leaves_the_planes_alone(rng):
    planes = flat_planes(0.5, side=8)
    expose(planes, rng, dataclasses.replace(CONFIG, clipped=1, quantised=1))
    assert torch.equal(planes, flat_planes(0.5, side=8))


def test_read_noise_follows_shot_noise_through_the_cameras_medians():
    # docs: median green channel of 433 models at ISO 800 and 3200; the paper's gain 1.
    for shot, read in ((1.8e-5, 3.9e-8), (6.7e-5, 2.7e-7), (2.704e-3, 4.672e-5)):
        assert typical_read(np.log10(shot)) == pytest.approx(np.log10(read), abs=0.4)
