"""Apply kernels to frames: clean planes, by one path for training and one for use.

Equation 3 of Mildenhall et al., "Burst Denoising with Kernel Prediction Networks" (CVPR 2018):
`Y^p = 1/N sum_i <f_i^p, V^p(X_i)>`; `kpn` has the list of symbols. After it, the dilated kernel
filters Y once more, and the planes exchange detail (`cross_plane`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..align.clipping import exclude_clipped
from . import cross_plane
from .kernel_filter import filter_frames, filter_padded, pad_frames
from .kpn import KPN

#: Distance between the taps of the dilated kernel, in cells: the first kernels have already
#: made neighbours closer than that alike.
DILATION = 3
#: Values of kernels that are computed and applied together: 16 MB of them.
_BAND_VALUES = 2**22


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


def restore_in_bands(
    network: KPN,
    burst: Tensor,
    x: Tensor,
    weights: Tensor,
    *,
    band_values: int = _BAND_VALUES,
) -> Merged:
    """Merge a burst with kernels that are computed for a band of rows, applied and dropped.

    Kernels take 900 bytes a cell: for a whole tile they would fill the memory, and no cache
    would hold them from being computed to being applied. Not for training.

    Args:
        network: predicts kernels.
        burst: `(batch, count, planes, height, width)`, as in `restore`.
        x: `(batch, config.head, height, width)`, `Encoded.features` of the burst (`KPN.encoded`).
        weights: `(batch, count, height, width)`, its `Encoded.weights`.
        band_values: of kernels that are computed together.
    """
    batch, count, planes, height, width = burst.shape
    centre = network.config.kernel**2 // 2
    clean = burst.new_empty(batch, planes, height, width)
    reference_weight = burst.new_empty(batch, height, width)
    bands = _filter_in_bands(network, burst, x, weights, 1, band_values, dilated=False)
    for band, kernels, filtered in bands:
        clean[:, :, band] = filtered.mean(1)
        reference_weight[:, band] = kernels[:, 0, centre] / count
    merged = Merged(clean, reference_weight)
    if network.config.wide:
        smoother, centre_taps = filter_dilated(network, clean, x, weights, band_values=band_values)
        merged = Merged(smoother, reference_weight.mul_(centre_taps))
    if network.config.scales:
        merged = _add_detail_in_bands(network, merged, x, band_values)
    return merged


def _add_detail_in_bands(network: KPN, merged: Merged, x: Tensor, band_values: int) -> Merged:
    """Let the planes take each other's detail, band by band."""
    clean, reference_weight = torch.empty_like(merged.clean), merged.reference_weight
    height, width = reference_weight.shape[-2:]
    reach = cross_plane.reach(network.config.scales)
    step = max(band_values // (width * cross_plane.weight_count(network.config.scales)), 1)
    for top in range(0, height, step):
        band = slice(max(top - reach, 0), min(top + step + reach, height))
        weights = network.detail_weights(x[:, :, band])
        detailed = cross_plane.add_detail(merged.clean[:, :, band], weights)
        inner = slice(top - band.start, min(top + step, height) - band.start)
        clean[:, :, top : top + step] = detailed[:, :, inner]
        reference_weight[:, top : top + step] *= cross_plane.self_weight(weights)[:, inner]
    return Merged(clean, reference_weight)


def filter_dilated(
    network: KPN,
    picture: Tensor,
    x: Tensor,
    weights: Tensor,
    *,
    band_values: int = _BAND_VALUES,
) -> tuple[Tensor, Tensor]:
    """Filter a picture with the dilated kernels, computed band by band.

    Args:
        network: predicts a dilated kernel.
        picture: `(batch, planes, height, width)`.
        x, weights, band_values: as in `restore_in_bands`.

    Returns:
        The filtered picture, and the centre taps of the kernels, `(batch, height, width)`.
    """
    smoother, centre_taps = torch.empty_like(picture), torch.empty_like(picture[:, 0])
    centre = network.config.kernel**2 // 2
    bands = _filter_in_bands(
        network, picture[:, None], x, weights, DILATION, band_values, frames=False
    )
    for band, kernels, filtered in bands:
        smoother[:, :, band] = filtered[:, 0]
        # The other taps are too far away: kernels of 5x5 taps or fewer never reach that sample.
        centre_taps[:, band] = kernels[:, 0, centre]
    return smoother, centre_taps


def _filter_in_bands(
    network: KPN,
    pictures: Tensor,
    x: Tensor,
    weights: Tensor,
    dilation: int,
    band_values: int,
    **which: bool,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield rows, their kernels and the pictures filtered with them, band by band.

    Args:
        pictures: `(batch, count, planes, height, width)`.
        which: kernels to compute (`KPN.kernels`).
    """
    height, width = pictures.shape[-2:]
    side = network.config.kernel
    reach = side // 2 * dilation
    padded = pad_frames(pictures, reach)
    step = max(band_values // (width * pictures.shape[1] * side**2), 1)
    for top in range(0, height, step):
        band = slice(top, min(top + step, height))
        kernels = network.kernels(x[:, :, band], weights[:, :, band], **which)
        rows = padded[:, :, :, top : band.stop + 2 * reach]
        yield band, kernels, filter_padded(rows, kernels, dilation)
