"""The mean of a burst's frames in sensor coordinates, where defects stand still."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    trimmed = len(frames) >= MIN_TRIMMED

    def add_band(top: int) -> None:
        rows = slice(top, top + step)
        total = frames[0].linear(frames[0].samples[:, rows]).numpy()
        low, high = (total.copy(), total.copy()) if trimmed else (total, total)
        for frame in frames[1:]:
            linear = frame.linear(frame.samples[:, rows]).numpy()
            total += linear
            if trimmed:
                np.minimum(low, linear, out=low)
                np.maximum(high, linear, out=high)
        if trimmed:
            total -= low
            total -= high
        np.divide(total, len(frames) - 2 * trimmed, out=mean[:, rows])

    for _ in map_in_threads(add_band, range(0, height, step)):
        pass
    return mean


def averaged_frames(count: int) -> int:
    """Return how many values of `count` frames are in each sample of `mean_frame`."""
    return count - 2 if count >= MIN_TRIMMED else count
