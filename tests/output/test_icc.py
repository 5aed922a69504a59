"""A colour engine takes our profiles for what they are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from kpn_cli.image.srgb import srgb_encode
from kpn_cli.output.icc import rgb_profile


@pytest.mark.parametrize("linear", [True, False])
def test_a_colour_engine_reads_the_profile_as_srgb_or_linear(linear):
    profile = ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(linear=linear)))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    seen = ImageCms.profileToProfile(
        Image.fromarray(pixels), profile, ImageCms.createProfile("sRGB")
    )
    expected = 255 * srgb_encode(pixels / 255) if linear else pixels
    assert np.abs(np.asarray(seen) - expected.astype(np.float64)).max() <= 1.5
