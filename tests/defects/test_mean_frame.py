"""The mean of the frames shows what stands still on the sensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kpn_cli.burst.frame import Frame
from kpn_cli.defects import mean_frame as module
from kpn_cli.defects.mean_frame import averaged_frames, mean_frame


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_it_is_the_mean_without_the_extremes(count, rng, monkeypatch):
    monkeypatch.setattr(module, "_BAND_SAMPLES", 100)  # several bands
    planes = rng.uniform(0, 1, (count, 4, 13, 9)).astype(np.float32)
    found = mean_frame([Frame.of_planes(one.copy()) for one in planes])
    ordered = np.sort(planes, axis=0)
    expected = ordered[1:-1].mean(0) if count > 3 else planes.mean(0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert averaged_frames(count) == (count - 2 if count > 3 else count)


def test_frames_are_not_changed(rng):
    planes = rng.uniform(0, 1, (2, 4, 6, 6)).astype(np.float32)
    kept = planes.copy()
    mean_frame([Frame.of_planes(one) for one in planes])
    np.testing.assert_array_equal(planes, kept)


def test_levels_of_each_frame_are_applied():
    samples = [np.full((4, 2, 2), value, np.uint16) for value in (110, 60)]
    frames = [
        Frame(torch.from_numpy(planes), (black,) * 4, white)
        for planes, black, white in zip(samples, (10.0, 10.0), (210.0, 110.0), strict=True)
    ]
    np.testing.assert_allclose(mean_frame(frames), 0.5)


def test_a_cosmic_ray_leaves_no_trace():
    planes = np.full((5, 4, 8, 8), 0.1, np.float32)
    planes[2, 1, 3, 4] = 1
    found = mean_frame([Frame.of_planes(one) for one in planes])
    np.testing.assert_allclose(found, 0.1, rtol=1e-6)
