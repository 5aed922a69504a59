"""The mean of a burst's frames in sensor coordinates, where defects stand still."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from ..burst.frame import Frame
from ..system.threads import map_in_threads

#: From this number of frames on, the highest and the lowest value of each sample are left out of
#: its mean: a cosmic ray, or a light that passes, is in one frame.
MIN_TRIMMED = 4
#: Samples that are converted at a time: they stay in the processor's cache.
_BAND_SAMPLES = 1 << 17


def mean_frame(frames: Sequence[Frame]) -> np.ndarray:
    """Return the mean of frames, not aligned: the scene is blurred by motion, defects are not.

    Args:
        frames: of one burst and exposure, on the CPU.

    Returns:
        `(4, height, width)` float32, linear; of `MIN_TRIMMED` frames or more without the highest
        and the lowest value of each sample.
    """
    height, width = frames[0].size
    mean = np.empty((4, height, width), np.float32)
    step = max(_BAND_SAMPLES // (4 * width), 1)
    count = len(frames)
    trimmed = count >= MIN_TRIMMED
    # Frames of equal levels are averaged as they were recorded: whole numbers, half as long.
    recorded = all(_levels(frame) == _levels(frames[0]) for frame in frames)
    recorded = recorded and frames[0].samples.dtype == torch.uint16

    def band_of(frame: Frame, rows: slice) -> np.ndarray:
        samples = frame.samples[:, rows]
        return (samples if recorded else frame.linear(samples)).numpy()

    def add_band(top: int) -> None:
        rows = slice(top, top + step)
        first = band_of(frames[0], rows)
        total = first.astype(np.float32)
        low, high = (first.copy(), first.copy()) if trimmed else (first, first)
        for frame in frames[1:]:
            values = band_of(frame, rows)
            for one, plane in zip(values, total, strict=True):
                cv2.accumulate(one, plane)
            if trimmed:
                np.minimum(low, values, out=low)
                np.maximum(high, values, out=high)
        if trimmed:
            total -= low.astype(np.float32, copy=False)
            total -= high.astype(np.float32, copy=False)
        np.divide(total, count - 2 * trimmed, out=mean[:, rows])
        if recorded:
            band = torch.from_numpy(mean[:, rows])
            frames[0].linear(band, band)

    for _ in map_in_threads(add_band, range(0, height, step)):
        pass
    return mean


def _levels(frame: Frame) -> tuple[object, ...]:
    return frame.samples.dtype, frame.black, frame.white, frame.gain


def averaged_frames(count: int) -> int:
    """Return how many values of `count` frames are in each sample of `mean_frame`."""
    return count - 2 if count >= MIN_TRIMMED else count
