"""Known shifts are found; where there is nothing to align by, shifts stay small."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shifted_scenes import MARGIN, align, cut, scene_of

from kpn_cli.align.block_matching import MAX_SHIFT, _Moved, _smoothed, _TileGrid, stabilise
from kpn_cli.align.warp import TILE, most_common_shift
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.synthesis.protocol import noise_of_gain


def photographed(clean, noise, seed):
    return stabilise(torch.from_numpy(noise.sample(clean, np.random.default_rng(seed))), noise)


def aligned(height, width, shift, noise, seed=1):
    big = scene_of(seed, height, width)
    reference = photographed(cut(big, height, width, (0, 0)), noise, 10 + seed)
    return align(reference, photographed(cut(big, height, width, shift), noise, 20 + seed))


def right(shifts, shift, height, width):
    """Whether each tile that lies wholly within both frames has the right shift."""
    y, x = torch.arange(shifts.shape[0]) * TILE, torch.arange(shifts.shape[1]) * TILE
    rows = (y + min(shift[0], 0) >= 0) & (y + TILE + max(shift[0], 0) <= height)
    columns = (x + min(shift[1], 0) >= 0) & (x + TILE + max(shift[1], 0) <= width)
    return (shifts == torch.tensor(shift)).all(-1)[rows][:, columns]


# --- known shifts -----------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(-60, 60), st.integers(-60, 60), st.integers(1, 3))
def test_a_shift_of_up_to_sixty_cells_is_found_in_every_tile(dy, dx, seed):
    shifts = aligned(200, 217, (dy, dx), noise_of_gain(1), seed)
    assert shifts.shape == (13, 14, 2)
    assert shifts.dtype == torch.int64
    found = right(shifts, (dy, dx), 200, 217)
    assert found.numel()
    assert found.all()


@pytest.mark.parametrize("shift", [(0, 0), (MAX_SHIFT, 0), (0, -MAX_SHIFT), (1, -1), (-37, 22)])
def test_a_shift_is_found_almost_without_noise_too(shift):
    shifts = aligned(200, 200, shift, NoiseModel.uniform(1e-5, 1e-8))
    assert right(shifts, shift, 200, 200).all()


@pytest.mark.parametrize(("gain", "share"), [(2, 0.98), (4, 0.95), (8, 0.7)])
def test_at_high_noise_most_tiles_are_right(gain, share):
    hits = [
        right(aligned(192, 192, shift, noise_of_gain(gain), seed), shift, 192, 192)
        for seed, shift in enumerate([(0, 0), (7, -5), (-16, 9), (3, 12)], 1)
    ]
    assert float(torch.cat([hit.flatten() for hit in hits]).float().mean()) > share


@pytest.mark.parametrize("shift", [(0, 1), (-1, 0), (1, -1)])
def test_a_shift_by_one_cell_is_found_where_noise_nearly_hides_it(shift):
    """Without smoothing, most of these frames stay unmoved."""
    noise, found = noise_of_gain(8), []
    for seed in range(1, 5):
        big = 0.2 + 0.3 * (scene_of(seed, 320, 320) - 0.5)
        reference = photographed(cut(big, 320, 320, (0, 0)), noise, 10 + seed)
        shifts = align(reference, photographed(cut(big, 320, 320, shift), noise, 20 + seed))
        found.append(float(right(shifts, shift, 320, 320).float().mean()))
    assert min(found) > 0.9, found


def test_noise_alone_moves_no_frame():
    noise, flat = noise_of_gain(8), np.full((4, 200, 200), 0.1, np.float32)
    for seed in range(20):
        shifts = align(photographed(flat, noise, seed), photographed(flat, noise, 100 + seed))
        assert not most_common_shift(shifts.view(-1, 2)).any()


def test_brightness_that_drifts_is_no_shift():
    """A slope that becomes brighter looks like one that has moved."""
    noise = noise_of_gain(8)
    slope = np.broadcast_to(np.linspace(0.1, 0.6, 400, dtype=np.float32), (4, 400, 400))
    for seed in range(4):
        first, other = (
            photographed(slope, noise, seed),
            photographed(1.01 * slope, noise, 50 + seed),
        )
        assert not most_common_shift(align(first, other).view(-1, 2)).any()


def test_the_noise_of_smoothed_images_has_variance_one():
    noise = torch.randn(1500, 1500, generator=torch.Generator().manual_seed(0))
    assert float(_smoothed(noise).var()) == pytest.approx(1, rel=0.02)


def test_a_frame_aligned_with_itself_stays_where_it_is():
    frame = photographed(cut(scene_of(1, 90, 110), 90, 110, (0, 0)), noise_of_gain(1), 0)
    assert not align(frame, frame).any()


def test_tiles_have_shifts_of_their_own():
    noise, left, right_half = noise_of_gain(1), (4, 0), (-3, 6)
    big = scene_of(1, 192, 192)
    frame = cut(big, 192, 192, left)
    frame[..., 96:] = cut(big, 192, 192, right_half)[..., 96:]
    shifts = align(
        photographed(cut(big, 192, 192, (0, 0)), noise, 0), photographed(frame, noise, 1)
    )
    # But for the tiles along the seam and along the border of the picture.
    assert (shifts[1:-1, 1:5] == torch.tensor(left)).all(-1).float().mean() > 0.95
    assert (shifts[1:-1, 7:-1] == torch.tensor(right_half)).all(-1).float().mean() > 0.95


def test_a_gain_on_picture_and_noise_model_changes_no_shift():
    noise, big = noise_of_gain(2), scene_of(2, 100, 100)
    clean = [cut(big, 100, 100, shift) for shift in ((0, 0), (5, -4))]
    noisy = [
        torch.from_numpy(noise.sample(c, np.random.default_rng(n))) for n, c in enumerate(clean)
    ]
    plain = align(*(stabilise(frame, noise) for frame in noisy))
    scaled = align(*(stabilise(frame / 4, noise.scaled(0.25)) for frame in noisy))
    assert torch.equal(plain, scaled)


# --- nothing to align by ----------------------------------------------------


def test_flat_tiles_stay_near_the_shift_of_the_rest_of_the_picture():
    """Within the steps of the levels below the coarsest, 8 + 4 + 2 + 1 cells."""
    noise, shift = noise_of_gain(1), (5, -3)
    big = scene_of(1, 200, 220)
    big[:, MARGIN + 110 :] = 0.3
    reference = photographed(cut(big, 200, 220, (0, 0)), noise, 0)
    shifts = align(reference, photographed(cut(big, 200, 220, shift), noise, 1))
    assert right(shifts[:, :6], shift, 200, 96).all()
    assert int((shifts - torch.tensor(shift)).abs().max()) <= 15


def test_no_shift_is_longer_than_the_search():
    noise, flat = noise_of_gain(2), np.full((4, 200, 200), 0.3, np.float32)
    shifts = align(photographed(flat, noise, 0), photographed(flat, noise, 1))
    assert int(shifts.abs().max()) <= MAX_SHIFT + 15


def test_two_equal_flat_frames_are_not_moved():
    flat = torch.full((100, 100), 3.0)
    assert not align(flat, flat).any()


# --- sizes ------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(1, 70), st.integers(1, 70))
def test_every_size_has_a_shift_for_every_tile(height, width):
    big = scene_of(1, 70, 70)
    frame = photographed(cut(big, height, width, (0, 0)), noise_of_gain(1), 0)
    shifts = align(frame, frame)
    assert shifts.shape == (-(-height // TILE), -(-width // TILE), 2)
    assert not shifts.any()


@pytest.mark.parametrize(("height", "width"), [(193, 207), (199, 385), (200, 97)])
def test_odd_sizes_are_aligned_to_the_last_tile(height, width):
    shifts = aligned(height, width, (-6, -7), noise_of_gain(1))
    assert right(shifts, (-6, -7), height, width).all()


def test_a_picture_of_three_cells_is_not_torn_apart():
    shifts = aligned(3, 3, (0, 0), noise_of_gain(1))
    assert shifts.shape == (1, 1, 2)
    assert int(shifts.abs().max()) <= 2


# --- stabilisation ----------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    "noise",
    [
        NoiseModel.uniform(1e-6, 1e-9),
        noise_of_gain(0),
        noise_of_gain(2),
        noise_of_gain(8),
        NoiseModel.uniform(0, 1e-4),
        NoiseModel.uniform(1e-8, 1e-3),
    ],
)
def test_stabilised_noise_has_variance_one_at_every_signal_and_iso(noise, level):
    grey = photographed(np.full((4, 150, 150), level, np.float32), noise, 0)
    assert float(grey.double().var()) == pytest.approx(1, abs=0.06)


def test_stabilised_planes_of_unequal_noise_have_variance_one():
    noise = NoiseModel((1e-3, 2e-3, 2e-3, 3e-3), (1e-5, 2e-5, 2e-5, 3e-5))
    grey = photographed(np.full((4, 150, 150), 0.3, np.float32), noise, 0)
    assert float(grey.double().var()) == pytest.approx(1, abs=0.06)


def test_stabilised_grey_rises_with_the_signal_and_is_finite_below_black():
    levels = torch.linspace(-1, 2, 301).expand(4, 1, 301)
    for noise in (noise_of_gain(0), noise_of_gain(8), NoiseModel.uniform(0, 1e-4)):
        grey = stabilise(levels, noise)[0]
        assert torch.isfinite(grey).all()
        assert (grey.diff() >= 0).all()
        assert (grey[101:].diff() > 0).all()


# --- costs ------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.integers(24, 70),
    st.integers(24, 70),
    st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    st.integers(0, 1),
    st.data(),
)
def test_dense_and_sparse_costs_are_equal(height, width, shift, margin, data):
    generator = torch.Generator().manual_seed(height)
    reference, frame = torch.randn(2, height, width, generator=generator)
    tiles = _TileGrid(reference)
    count = tiles.rows * tiles.columns
    shifts = torch.tensor(shift).repeat(count, 1)
    apart = data.draw(st.lists(st.integers(0, count - 1), max_size=count, unique=True))
    shifts[apart] += torch.tensor(data.draw(st.tuples(st.integers(-3, 3), st.integers(-3, 3))))
    chosen = torch.tensor(
        data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True))
    )
    expected = tiles._sparse_costs(frame, shifts, chosen, margin)
    torch.testing.assert_close(tiles._costs(_Moved(tiles, frame), shifts, chosen, margin), expected)
