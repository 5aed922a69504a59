"""Finds frames that are one photo twice: they differ by next to no noise.

A photo that was compressed again with losses, or rescaled to other levels, has other samples than
its original, and the same noise. Two photos of a still scene differ by their noise at least, so
frames that do not are no burst: their difference says nothing about the noise, and merging them
reduces none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..burst.frame import Frame
from ..errors import KpnError
from ..image.noise_model import NoiseModel
from . import estimation

#: Two frames are copies if the variance of their difference is below this share of both the noise
#: that each frame shows and the stated noise. The stated sigma may be off by a factor of 2.
NEXT_TO_NONE = 1 / 16
#: Blocks that are cut out of a frame; the share of them that is compared, the flattest, and at
#: least `_MIN_BLOCKS`.
_BLOCKS, _FLATTEST_SHARE, _MIN_BLOCKS = 1000, 0.1, 20
#: Share of these blocks that must show next to no noise: losses depend on the brightness.
_ALIKE_SHARE = 0.25


def find_near_copies(frames: Sequence[Frame], stated: NoiseModel) -> list[tuple[int, int]]:
    """Return the pairs of frames that are one photo twice, as indices, the smaller one first.

    Frames are compared as they are, not aligned: a copy is not shifted. What a frame shows alone
    is not enough, for texture passes for noise there, and vanishes in the difference of two frames
    of a still scene; so nothing is found without a statement.

    Args:
        frames: of equal size and exposure.
        stated: noise of the frames, by the user, the file or its ISO.
    """
    if len(frames) < 2:
        return []
    try:
        blocks = [_blocks(frame) for frame in frames]
    except KpnError:  # too small a picture to see noise in
        return []
    levels = estimation.clip_levels(blocks[0])
    usable = ~np.any([estimation.clipped_blocks(cut, levels).any(0) for cut in blocks], 0)
    count = max(round(_FLATTEST_SHARE * np.count_nonzero(usable)), _MIN_BLOCKS)
    if np.count_nonzero(usable) < count:
        return []
    # (blocks, frames, samples)
    responses = np.stack([_flat(estimation.noise_response(cut[:, usable])) for cut in blocks], 1)
    variances = np.square(responses).mean(2)
    flattest = variances.mean(1).argsort()[:count]
    responses, variances = responses[flattest], variances[flattest]
    signal = blocks[0][:, usable][:, flattest].mean((-2, -1)).clip(0)
    shot, read = (np.array(values)[:, None] for values in (stated.shot, stated.read))
    least = np.minimum(variances, (shot * signal + read).mean(0)[:, None])
    # Half the variance of a difference is that of the noise of one frame.
    products = responses @ responses.transpose(0, 2, 1) / responses.shape[2]
    differences = (variances[:, :, None] + variances[:, None, :]) / 2 - products
    alike = differences < NEXT_TO_NONE * np.minimum(least[:, :, None], least[:, None, :])
    pairs = np.argwhere(alike.mean(0) >= _ALIKE_SHARE).tolist()
    return [(one, other) for one, other in pairs if one < other]


def _blocks(frame: Frame) -> np.ndarray:
    def cells(rows: slice) -> np.ndarray:
        return frame.linear(frame.samples[:, rows]).cpu().numpy()

    return estimation.cut_blocks(*frame.size, cells, _BLOCKS)


def _flat(responses: np.ndarray) -> np.ndarray:
    """Return `(4, blocks, side, side)` as `(blocks, samples)`."""
    flat: np.ndarray = responses.transpose(1, 0, 2, 3).reshape(responses.shape[1], -1)
    return flat
