"""The planes take each other's detail, and nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.network import cross_plane
from kpn_cli.network.cross_plane import add_detail, details, self_weight

PLACES = {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (1, 1)}  # R, G1, G2, B in a 2x2 cell


def example(scales, height=31, width=29, seed=0):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(1, 4, height, width, generator=generator)
    weights = torch.randn(1, 16 * scales, height, width, generator=generator) / 4
    return clean, weights


def square_mean(plane, row, column, reach):
    """Mean around a cell; beyond the border the nearest sample."""
    rows, columns = plane.shape
    near = [
        plane[min(max(row + i, 0), rows - 1), min(max(column + j, 0), columns - 1)]
        for i in range(-reach, reach + 1)
        for j in range(-reach, reach + 1)
    ]
    return torch.stack(near).mean()


def slowly(clean, weights, row, column):
    """The four planes of one cell far from the border, by the obvious loops."""
    planes = clean[0]
    result = planes[:, row, column].clone()
    fine = planes.clone()
    for plane, r, c in torch.cartesian_prod(
        torch.arange(4), torch.arange(row - 1, row + 2), torch.arange(column - 1, column + 2)
    ).tolist():
        fine[plane, r, c] -= square_mean(planes[plane], r, c, 1)
    for p, (top, left) in PLACES.items():
        for q, (above, beside) in PLACES.items():
            # The samples of q at the four corners, or two sides, of p's place on the sensor.
            y, x = 2 * row + top, 2 * column + left
            rows = {(y + step - above) // 2 for step in (-1, 0, 1) if (y + step - above) % 2 == 0}
            columns = {
                (x + step - beside) // 2 for step in (-1, 0, 1) if (x + step - beside) % 2 == 0
            }
            around = torch.stack([fine[q, r, c] for r in rows for c in columns])
            result[p] += weights[0, 4 * p + q, row, column] * around.mean()
            if weights.shape[1] > 16:
                middle = square_mean(planes[q], row, column, 1)
                middle -= square_mean(planes[q], row, column, 4)
                result[p] += weights[0, 16 + 4 * p + q, row, column] * middle
    return result


@pytest.mark.parametrize("scales", [1, 2])
def test_adding_detail_equals_the_formula(scales):
    clean, weights = example(scales)
    done = add_detail(clean, weights)
    for row, column in [(15, 14), (12, 17), (16, 11)]:
        expected = slowly(clean, weights, row, column)
        torch.testing.assert_close(done[0, :, row, column], expected, atol=1e-5, rtol=1e-5)


@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
def test_constant_planes_stay_constant_whatever_the_weights(scales, height, width):
    _, weights = example(scales, height, width)
    levels = torch.tensor([0.1, 0.7, 0.5, 0.02])[None, :, None, None].expand(1, 4, height, width)
    torch.testing.assert_close(add_detail(levels, weights), levels, atol=1e-6, rtol=1e-6)


def test_without_weights_nothing_changes():
    clean, weights = example(2)
    assert torch.equal(add_detail(clean, 0 * weights), clean)


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_details_are_all_but_the_coarsest_mean(scales):
    clean, _ = example(scales, 60, 60)
    found = details(clean, scales)
    assert len(found) == scales
    rest = clean - sum(found)
    side = 3**scales
    inner = (slice(None), slice(None), *[slice(side // 2, -(side // 2))] * 2)
    expected = torch.nn.functional.avg_pool2d(clean, side, 1)
    torch.testing.assert_close(rest[inner], expected, atol=1e-5, rtol=1e-5)


def test_equal_weights_average_the_noise_of_the_planes():
    """Detail that all planes share, and noise in each: the mean of all halves the noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 4, 90, 90, generator=generator)
    weights = torch.zeros(1, 16, 90, 90)
    weights[:] = (torch.full((4, 4), 0.25) - torch.eye(4)).flatten()[None, :, None, None]
    before, after = noise.var(), add_detail(noise, weights).var()
    # 8/9 of the variance is detail; of it a sixteenth is left of the plane itself, and of the
    # others less, as they are means of 2 or 4 samples.
    assert after < 0.25 * before


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_the_self_weight_is_what_a_brighter_sample_adds_to_itself(scales):
    clean, weights = example(scales, 60, 60)
    risen = torch.zeros(4)
    for plane in range(4):
        brighter = clean.clone()
        brighter[0, plane, 30, 30] += 1
        risen[plane] = (add_detail(brighter, weights) - add_detail(clean, weights))[
            0, plane, 30, 30
        ]
    torch.testing.assert_close(self_weight(weights)[0, 30, 30], risen.mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_the_result_depends_on_nothing_beyond_the_reach(scales):
    clean, weights = example(scales, 80, 9)
    far = clean.clone()
    far[..., : 40 - cross_plane.reach(scales), :] += 1
    torch.testing.assert_close(
        add_detail(far, weights)[..., 40:, :], add_detail(clean, weights)[..., 40:, :]
    )
    nearer = clean.clone()
    nearer[..., : 41 - cross_plane.reach(scales), :] += 1
    assert not torch.equal(
        add_detail(nearer, weights)[..., 40, :], add_detail(clean, weights)[..., 40, :]
    )
