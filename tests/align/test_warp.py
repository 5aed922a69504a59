"""A warped frame takes its samples from where the tiles' shifts point, mirrored at its border."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shifted_scenes import align, cut, scene_of

from kpn_cli.align import warp
from kpn_cli.align.block_matching import stabilise
from kpn_cli.align.warp import TILE, warp_frames, warp_planes
from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 39), st.integers(0, 39), st.data())
def test_warping_equals_the_loop(height, width, top, left, data):
    rows = slice(min(top, height - 1), data.draw(st.integers(min(top, height - 1) + 1, height)))
    columns = slice(min(left, width - 1), data.draw(st.integers(min(left, width - 1) + 1, width)))
    generator = torch.Generator().manual_seed(height * 41 + width)
    planes = torch.arange(4 * height * width, dtype=torch.float32).view(4, height, width)
    shape = (-(-height // TILE), -(-width // TILE), 2)
    shifts = torch.randint(-50, 51, shape, generator=generator)
    part = warp_planes(planes, shifts, rows, columns)
    assert part.shape == (4, rows.stop - rows.start, columns.stop - columns.start)
    for row in range(rows.start, rows.stop):
        for column in range(columns.start, columns.stop):
            dy, dx = shifts[row // TILE, column // TILE].tolist()
            y, x = mirrored(row + dy, height), mirrored(column + dx, width)
            found = part[:, row - rows.start, column - columns.start]
            assert torch.equal(found, planes[:, y, x])


def mirrored(index, length):
    """As numpy's reflect padding, for one reflection at each end."""
    if index < 0:
        index = -index
    if index >= length:
        index = 2 * (length - 1) - index
    return min(max(index, 0), length - 1)


def test_a_warped_frame_equals_the_reference():
    big, shift = scene_of(1, 100, 100), (6, -9)
    reference = torch.from_numpy(cut(big, 100, 100, (0, 0)))
    frame = torch.from_numpy(cut(big, 100, 100, shift))
    noise = NoiseModel.uniform(1e-5, 1e-8)
    shifts = align(stabilise(reference, noise), stabilise(frame, noise))
    again = warp_planes(frame, shifts, slice(0, 100), slice(0, 100))
    assert torch.equal(again[:, 16:80, 16:80], reference[:, 16:80, 16:80])


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.uint16, torch.int32, torch.float16, torch.float64]
)
def test_warping_keeps_the_dtype(dtype):
    planes = torch.ones(4, 5, 5, dtype=dtype)
    shifts = torch.zeros(1, 1, 2, dtype=torch.int64)
    assert warp_planes(planes, shifts, slice(0, 5), slice(1, 3)).dtype == dtype


def test_frames_warped_in_bands_are_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 1000, (4, 70, 50), generator=generator).to(torch.uint16)
    frames = [Frame(samples, (10.0, 11.0, 12.0, 13.0), 1000.0, gain) for gain in (1.0, 2.0)]
    shifts = [torch.randint(-9, 10, (5, 4, 2), generator=generator) for _ in frames]
    rows, columns = slice(5, 69), slice(3, 50)
    monkeypatch.setattr(warp, "_ROWS_AT_ONCE", 11)
    banded = warp_frames(frames, shifts, rows, columns)
    for frame, shift, found in zip(frames, shifts, banded, strict=True):
        assert torch.equal(found, frame.linear(warp_planes(samples, shift, rows, columns)))
