"""Apply kernels to frames: clean planes, by one path for training and one for use.

Equation 3 of Mildenhall et al., "Burst Denoising with Kernel Prediction Networks" (CVPR 2018):
`Y^p = 1/N sum_i <f_i^p, V^p(X_i)>`; `kpn` has the list of symbols. After it, the dilated kernel
filters Y once more, and the planes exchange detail (`cross_plane`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..align.clipping import exclude_clipped
from ..system.bands import Band, bands, for_each
from . import cross_plane
from .kernel_filter import add_taps, continue_rows, filter_frames
from .kpn import KPN, Encoded, Head, Projection

#: Distance between the taps of the dilated kernel, in cells: the first kernels have already
#: made neighbours closer than that alike.
DILATION = 3
#: Values of a band's features, kernels and samples: 4 MB for each core of a CPU. On other devices
#: fewer, larger operations pay.
_CACHED_VALUES, _VALUES = 2**20, 2**22


class Restored(NamedTuple):
    """A clean burst, with what it was made of; for training.

    Attributes:
        clean: `(batch, planes, height, width)`, Y.
        per_frame: `(batch, count, planes, height, width)`, each frame filtered with its
            kernels, f_i(X_i); None from a network that predicts pixels.
        kernels: `(batch, count, K*K, height, width)`, f_i, and `count + 1` of them with a
            dilated kernel; None likewise.
    """

    clean: Tensor
    per_frame: Tensor | None
    kernels: Tensor | None


def apply_kernels(burst: Tensor, kernels: Tensor, detail_weights: Tensor | None = None) -> Restored:
    """Return the clean planes of a burst under its kernels.

    Each frame X_i is filtered with its kernels f_i, and Y is the mean (equation 3). In very noisy
    bursts 25 taps of 8 frames are too few: if there is one more kernel than there are frames, it
    is the dilated one, which filters Y once more with taps `DILATION` cells apart. Last, the planes
    take each other's detail (`cross_plane.add_detail`).

    Args:
        burst: `(batch, count, planes, height, width)`, linear.
        kernels: `(batch, count or count + 1, K*K, height, width)`.
        detail_weights: `(batch, scales * 16, height, width)`; None to add no detail.
    """
    count = burst.shape[1]
    per_frame = filter_frames(burst, kernels[:, :count])
    clean = per_frame.mean(1)
    if kernels.shape[1] > count:
        clean = filter_frames(clean[:, None], kernels[:, count:], DILATION)[:, 0]
    if detail_weights is not None:
        clean = cross_plane.add_detail(clean, detail_weights)
    return Restored(clean, per_frame, kernels)


def restore(
    network: nn.Module, burst: Tensor, shot: Tensor, read: Tensor, clip: Tensor | None = None
) -> Restored:
    """Run a network (`kpn.KPN`) on a burst and merge the frames under its kernels.

    Args:
        network: predicts kernels (`kpn.PredictedKernels`) or pixels.
        burst: `(batch, count, 4, height, width)`, linear, in the reference's exposure, the
            reference first.
        shot, read: variance coefficients in the reference's exposure, `(batch, 4)`, or
            `(batch, count, 4)` if frames differ.
        clip: `(batch, count)`, where frames clip (`clipping.exclude_clipped`), which then need
            coefficients of their own; None to exclude nothing.
    """
    unclipped = None
    if clip is not None:
        burst, unclipped = exclude_clipped(burst, shot, read, clip)
    predicted = network(burst, shot, read, unclipped)
    if isinstance(predicted, Tensor):
        return Restored(predicted, None, None)
    return apply_kernels(burst, *predicted)


class Merged(NamedTuple):
    """A clean burst, without the kernels that made it; for use.

    Attributes:
        clean: `(batch, planes, height, width)`.
        reference_weight: `(batch, height, width)`, the weight that the reference's own sample
            has in the clean one; the mean over the planes.
    """

    clean: Tensor
    reference_weight: Tensor


@torch.no_grad()
def restore_in_bands(
    network: KPN,
    burst: Tensor,
    encoded: Encoded,
    *,
    band_values: int | None = None,
) -> Merged:
    """Merge a burst with kernels that are computed for a band of rows, applied and dropped.

    Kernels take 900 bytes a cell: for a whole tile they would fill the memory. A band of them
    stays in the cache from being computed to being applied. Not for training.

    Args:
        network: predicts kernels.
        burst: `(batch, count, planes, height, width)`, as in `restore`.
        encoded: of the burst (`KPN.encoded`).
        band_values: that a band takes; None for what suits the device.
    """
    count = burst.shape[1]
    x, weights, light = encoded
    head = network.kernel_head(count, dilated=False)
    start = _Start(weights * (count / weights.sum(1, keepdim=True)), light)
    clean, centre_taps = _filter_in_bands(head, burst, x, start, 1, band_values)
    merged = Merged(clean, centre_taps.div_(count))
    if network.config.wide:
        smoother, centre_taps = filter_dilated(network, clean, x, band_values=band_values)
        merged = Merged(smoother, merged.reference_weight.mul_(centre_taps))
    if network.config.scales:
        merged = _add_detail_in_bands(network.detail_head(), merged, x, band_values)
    return merged


@torch.no_grad()
def filter_dilated(
    network: KPN,
    picture: Tensor,
    x: Tensor,
    *,
    band_values: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Filter a picture with the dilated kernels, computed band by band.

    Args:
        network: predicts a dilated kernel.
        picture: `(batch, planes, height, width)`.
        x: `(batch, config.head, height, width)`, `Encoded.features`.
        band_values: as in `restore_in_bands`.

    Returns:
        The filtered picture, and the centre taps of the kernels, `(batch, height, width)`. The
        other taps are too far away: kernels of 5x5 taps or fewer never reach that sample.
    """
    head = network.kernel_head(0, dilated=True)
    return _filter_in_bands(head, picture[:, None], x, None, DILATION, band_values)


class _Start(NamedTuple):
    """From where kernels start.

    Attributes:
        taps: `(batch, count, height, width)`, the centre taps to which corrections are added.
        light: of the same shape, factor of the corrections; None for 1.
    """

    taps: Tensor
    light: Tensor | None


def _filter_in_bands(
    head: Head,
    pictures: Tensor,
    x: Tensor,
    start: _Start | None,
    dilation: int,
    band_values: int | None,
) -> tuple[Tensor, Tensor]:
    """Filter pictures with kernels that are computed band by band; return the mean.

    Args:
        head: of the corrections to the kernels.
        pictures: `(batch, count, planes, height, width)`.
        x: as in `filter_dilated`.
        start: of the kernels; None for centre taps of 1.
        dilation: distance of the taps, in cells.
        band_values: as in `restore_in_bands`.

    Returns:
        The mean, `(batch, planes, height, width)`, and the centre taps of the first picture's
        kernels, `(batch, height, width)`.
    """
    batch, count, planes, height, width = pictures.shape
    taps = len(head.bias) // count
    side = round(taps**0.5)
    reach = side // 2 * dilation
    clean = pictures.new_empty(batch, planes, height, width)
    centre_taps = pictures.new_empty(batch, height, width)
    step = _rows(head, count * planes, x, band_values)

    def begin() -> Callable[[tuple[int, Band]], None]:
        project = Projection(head, x, step)
        buffer = pictures.new_empty(count * planes * step * width)
        padded = pictures.new_empty(count, planes, step + 2 * reach, width + 2 * reach)

        def work(item: tuple[int, Band]) -> None:
            n, (rows, _, _) = item
            number = rows.stop - rows.start
            kernels = project(x[n, :, rows]).view(count, taps, number, width)
            centre = kernels[:, taps // 2]
            if start is None:
                centre += 1
            else:
                first = start.taps[n, :, rows]
                if start.light is not None:  # as `kpn.by_light` does
                    light = start.light[n, :, rows]
                    off = (kernels.sum(1) * (light - 1)).sum(0) / count
                    kernels *= light[:, None]
                    centre -= first * off
                centre += first
            filtered = buffer[: count * planes * number * width]
            filtered = filtered.view(count, planes, number, width)
            around = padded[:, :, : number + 2 * reach]
            continue_rows(pictures[n], rows.start - reach, around, reach)
            add_taps(filtered.zero_(), around, kernels, dilation)
            torch.mean(filtered, 0, out=clean[n, :, rows])
            centre_taps[n, rows] = centre[0]

        return work

    items = list(product(range(batch), bands(height, step)))
    for_each(begin, items, pictures.device)
    return clean, centre_taps


def _add_detail_in_bands(head: Head, merged: Merged, x: Tensor, band_values: int | None) -> Merged:
    """Let the planes take each other's detail, band by band."""
    clean, reference_weight = torch.empty_like(merged.clean), merged.reference_weight
    batch, _, height, _ = clean.shape
    scales = len(head.bias) // cross_plane.weight_count(1)
    reach = cross_plane.reach(scales)
    step = _rows(head, 2 * cross_plane.weight_count(1), x, band_values)
    if band_values is None:  # or most of a band would be surroundings
        step = max(step, 4 * reach)

    def begin() -> Callable[[tuple[int, Band]], None]:
        project = Projection(head, x, step)

        def work(item: tuple[int, Band]) -> None:
            n, (rows, around, inner) = item
            weights = torch.unflatten(project(x[n, :, rows]), 1, (-1, x.shape[3]))[None]
            detailed = cross_plane.add_detail(merged.clean[n, None, :, around], weights, inner)
            clean[n, :, rows] = detailed[0]
            reference_weight[n, rows] *= cross_plane.self_weight(weights)[0]

        return work

    items = list(product(range(batch), bands(height, step, reach)))
    for_each(begin, items, x.device)
    return Merged(clean, reference_weight)


def _rows(head: Head, samples: int, x: Tensor, band_values: int | None) -> int:
    """Return the rows of a band.

    Args:
        head: that predicts its kernels or weights.
        samples: that each cell takes besides its features and kernels.
        x, band_values: as in `filter_dilated`.
    """
    if band_values is None:
        band_values = _CACHED_VALUES if x.device.type == "cpu" else _VALUES
    return max(band_values // ((sum(head.weight.shape) + samples) * x.shape[3]), 1)
