"""Where a camera's samples saturate, where its file does not say so.

A DNG states it (WhiteLevel). For other formats LibRaw has `maximum`, often the largest number
that the format can hold, and for some cameras `linear_max`, the maker's own white, which its
authors call usually way too low, with many samples above it (libraw.org, comment 6056). Cameras
saturate below `maximum` at levels that differ between colours and sensitivities: a Nikon D7000
records at most 15,780 of 16,383 in green (github.com/darktable-org/rawspeed/issues/359). So the
samples decide: where many are equal to the largest, they have saturated. Noise makes no such heap.
"""

from __future__ import annotations

import numpy as np

#: Larger samples than these are stray ones, such as hot pixels: share of a plane.
_STRAY = 1e-5
#: Smallest share of a plane that shows where it saturates.
_LEAST_SHARE = 1e-4
#: A heap lies within this share of the range; electronics may spread it a little.
_HEAP_WIDTH = 0.002
#: A heap has this many times the samples of the span of the same width below it.
_HEAP_RATIO = 2.0
#: No camera saturates below this share of `maximum`; as LibRaw's adjust_maximum_thr.
_LOWEST = 0.75
#: Largest share of samples equal to the next of their colour in a picture that has noise.
_MAX_EQUAL = 0.5


def saturation(mosaic: np.ndarray, black: float, white: float) -> float | None:
    """Return from which level on samples are saturated, if the picture shows it.

    Args:
        mosaic: `(height, width)` uint16 in DN.
        black: the highest black level, DN.
        white: LibRaw's `maximum`, DN.

    Returns:
        DN: of the colour that saturates first where that is below white; the largest sample where
        samples are above white; else None.
    """
    planes = [mosaic[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    counts = [np.bincount(plane.ravel(), minlength=2) for plane in planes]
    tops = [_without_strays(count) for count in counts]
    if max(tops) > white:
        return float(max(len(count) for count in counts) - 1)
    heaps = [_heap(count, top, white - black) for count, top in zip(counts, tops, strict=True)]
    lowest = black + _LOWEST * (white - black)
    found = min((heap for heap in heaps if heap is not None and heap >= lowest), default=white)
    return found if found < white and _has_noise(planes[0], found) else None


def _without_strays(count: np.ndarray) -> int:
    """Return the largest sample but for stray ones."""
    above = np.cumsum(count[::-1])[::-1]
    return int(np.flatnonzero(above > _STRAY * above[0])[-1])


def _heap(count: np.ndarray, top: int, span: float) -> float | None:
    """Return the middle of a heap of samples at the top; None if there is none."""
    width = max(round(_HEAP_WIDTH * span), 1)
    first = max(top - width + 1, 0)
    heap = count[first:]
    least = max(
        _LEAST_SHARE * count.sum(), _HEAP_RATIO * count[max(first - width, 0) : first].sum()
    )
    if heap.sum() < least:
        return None
    return float(first + np.searchsorted(heap.cumsum(), heap.sum() / 2))


def _has_noise(plane: np.ndarray, saturated: float) -> bool:
    """Whether neighbours below saturation differ; a drawn picture has heaps at every level."""
    below = plane[:, 1:] < saturated
    equal = below & (plane[:, 1:] == plane[:, :-1])
    return int(equal.sum()) <= _MAX_EQUAL * max(int(below.sum()), 1)
