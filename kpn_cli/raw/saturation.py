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

#: Larger samples than these are stray ones, such as hot pixels: share of a plane, and least number.
_STRAY, _FEW = 1e-5, 3
#: Smallest share of a plane that shows where it saturates.
_LEAST_SHARE = 1e-4
#: Least samples of a heap; in a smaller highlight all have one value, up to this share of strays.
_LEAST_EQUAL, _ABOVE = 20, 0.25
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
        DN: of the colour that saturates first, if some do; else the largest sample that is no
        stray one, if it is above white; None if that is white.
    """
    planes = [mosaic[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    counts = [np.bincount(plane.ravel(), minlength=2) for plane in planes]
    tops = [_without_strays(count) for count in counts]
    limit = max(white, *tops)
    lowest = black + _LOWEST * (white - black)
    heaps = [
        heap
        for count, top in zip(counts, tops, strict=True)
        for heap in (_heap(count, top, limit - black), _small_heap(count, limit - black))
        if heap is not None and heap >= lowest
    ]
    found = min(heaps, default=limit)
    if found < limit and not _has_noise(planes[0], found):
        found = limit
    return None if found == white else float(found)


def _without_strays(count: np.ndarray) -> int:
    """Return the largest sample but for stray ones."""
    above = np.cumsum(count[::-1])[::-1]
    strays = min(max(_STRAY * above[0], _FEW), above[0] - 1)
    return int(np.flatnonzero(above > strays)[-1])


def _heap(count: np.ndarray, top: int, span: float) -> float | None:
    """Return the middle of a heap of samples at the top; None if there is none."""
    width = max(round(_HEAP_WIDTH * span), 1)
    first = max(top - width + 1, 0)
    heap = count[first:]
    below = count[max(first - width, 0) : first].sum()
    least = max(_LEAST_SHARE * count.sum(), _LEAST_EQUAL, _HEAP_RATIO * below)
    if heap.sum() < least:
        return None
    return float(first + np.searchsorted(heap.cumsum(), heap.sum() / 2))


def _small_heap(count: np.ndarray, span: float) -> float | None:
    """Return the value that is the largest of a small highlight, next to strays; None if none is.

    Without clipping, a value is rarer than those below it: noise spreads the tail.
    """
    equal = np.flatnonzero(count >= _LEAST_EQUAL)
    if not len(equal):
        return None
    top = int(equal[-1])
    width = max(round(_HEAP_WIDTH * span), 1)
    below = np.flatnonzero(count[:top])
    # Compressed samples can lie further apart than the width.
    nearest = count[below[-1]] if len(below) else 0
    if count[top] < _HEAP_RATIO * max(count[max(top - width, 0) : top].sum(), nearest):
        return None
    return float(top) if count[top + 1 :].sum() <= _ABOVE * count[top] else None


def _has_noise(plane: np.ndarray, saturated: float) -> bool:
    """Whether neighbours below saturation differ; a drawn picture has heaps at every level."""
    below = plane[:, 1:] < saturated
    equal = below & (plane[:, 1:] == plane[:, :-1])
    return int(equal.sum()) <= _MAX_EQUAL * max(int(below.sum()), 1)
