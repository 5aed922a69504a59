"""Filters equal their definition, at the border too."""

from __future__ import annotations

import pytest
import torch

from kpn_cli.image.filters import box


def slow_box(x, side):
    """The obvious loop over one plane; the border is replicated."""
    mean = torch.empty_like(x)
    rows, columns = x.shape
    for row in range(rows):
        for column in range(columns):
            near = [
                x[min(max(row + i, 0), rows - 1), min(max(column + j, 0), columns - 1)]
                for i in range(-(side // 2), side // 2 + 1)
                for j in range(-(side // 2), side // 2 + 1)
            ]
            mean[row, column] = torch.stack(near).mean()
    return mean


@pytest.mark.parametrize("side", [1, 3, 5])
def test_a_box_is_the_mean_over_a_square(side):
    x = torch.rand(1, 1, 9, 11, generator=torch.Generator().manual_seed(side))
    torch.testing.assert_close(box(x, side)[0, 0], slow_box(x[0, 0], side))


def test_a_dilated_box_of_boxes_is_the_mean_over_the_whole_square():
    x = torch.rand(1, 2, 40, 30, generator=torch.Generator().manual_seed(0))
    inside = (..., slice(7, -7), slice(7, -7))
    torch.testing.assert_close(box(box(x, 5), 3, 5)[inside], box(x, 15)[inside])


def test_constant_padding_is_zero():
    x = torch.ones(1, 1, 6, 6)
    assert box(x, 3, padding_mode="constant")[0, 0, 0, 0] == pytest.approx(4 / 9)
