"""The sRGB curves are the standard's and invert each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.image.srgb import srgb_curve, srgb_decode, srgb_encode


@given(st.floats(-10, 10))
def test_srgb_decode_inverts_encode(value):
    assert srgb_decode(srgb_encode(value)) == pytest.approx(value, abs=1e-14)
    assert srgb_encode(srgb_decode(value)) == pytest.approx(value, abs=1e-14)


@given(st.floats(-10, 10), st.floats(0, 1))
def test_srgb_encode_is_monotonic(value, step):
    assert srgb_encode(value + step) >= srgb_encode(value)


def test_srgb_has_the_standards_values_and_straight_ends():
    # IEC 61966-2-1: mid grey 0.214041 is 0.5; the slopes are 12.92 below and 1.055/2.4 above.
    assert srgb_encode(0.21404114) == pytest.approx(0.5, abs=1e-7)
    assert srgb_encode(-1.0) == -12.92
    assert srgb_encode(3.0) == pytest.approx(1 + 2 * 1.055 / 2.4)
    assert srgb_encode(np.float32([0, 1])).dtype == np.float32
    np.testing.assert_allclose(srgb_encode(np.array([0, 1])), [0, 1], atol=1e-15)


@given(st.floats(-3, 5))
def test_the_curve_of_tensors_equals_that_of_arrays(x):
    expected = float(srgb_encode(np.float64(x)))
    assert float(srgb_curve(torch.tensor(x, dtype=torch.float64))) == pytest.approx(
        expected, abs=1e-6
    )


def test_the_slope_of_the_curve_is_finite_and_positive_everywhere():
    knees = [-1e9, -1.0, -1e-30, 0.0, 1e-30, 0.0031307, 0.0031308, 0.0031309, 1.0, 1 + 1e-6, 1e9]
    x = torch.cat([torch.tensor(knees), torch.linspace(-2, 3, 5001)]).requires_grad_()
    srgb_curve(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad > 0).all()
    assert float(x.grad.max()) < 13
