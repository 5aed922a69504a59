"""Kernels x frames -> clean planes: one path for training and for use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..align.clipping import exclude_clipped
from . import cross_plane
from .kernel_filter import filter_frames, filter_padded, pad_frames
from .kpn import KPN

#: Distance between the taps of the wide kernel, in cells: the first kernels have made
#: neighbours closer than that alike.
WIDE = 3
#: Kernels that are made and used together: 16 MB of them.
_BAND = 2**22


class Restored(NamedTuple):
    """What a network makes of a burst.

    Attributes:
        clean: `(batch, planes, height, width)`.
        per_frame: `(batch, count, planes, height, width)`, each frame under its
            kernels; None from a network that writes pixels.
        kernels: `(batch, count, K*K, height, width)`, and with a wide kernel
            `count + 1` of them; None likewise.
    """

    clean: Tensor
    per_frame: Tensor | None
    kernels: Tensor | None


def merge(burst: Tensor, kernels: Tensor, mix: Tensor | None = None) -> Restored:
    """Return the clean planes of a burst, with what they were made of.

    `Y(p) = 1/N sum_i <f_i(p), V_p(X_i)>` (Mildenhall et al., "Burst Denoising
    with Kernel Prediction Networks", CVPR 2018, equation 3). 25 taps of 8 frames reach
    no further than that, however noisy the burst is; a kernel more than there are frames
    is a wide one, which filters Y once more with taps `WIDE` cells apart. Last, the planes
    take each other's detail (`cross_plane.mixed`).

    Args:
        burst: `(batch, count, planes, height, width)`, linear.
        kernels: `(batch, count or count + 1, K*K, height, width)`.
        mix: `(batch, scales * 16, height, width)`, the weights of detail; None where none is taken.
    """
    count = burst.shape[1]
    per_frame = filter_frames(burst, kernels[:, :count])
    clean = per_frame.mean(1)
    if kernels.shape[1] > count:
        clean = filter_frames(clean[:, None], kernels[:, count:], WIDE)[:, 0]
    if mix is not None:
        clean = cross_plane.mixed(clean, mix)
    return Restored(clean, per_frame, kernels)


def restore(
    network: nn.Module, burst: Tensor, shot: Tensor, read: Tensor, clip: Tensor | None = None
) -> Restored:
    """Run a network (`kpn.KPN`) on a burst and merge the frames under its kernels.

    Args:
        network: writes kernels (`kpn.Written`) or pixels.
        burst: `(batch, count, 4, height, width)`, linear, in the reference's exposure, the
            reference first.
        shot, read: variance coefficients in the reference's exposure, `(batch, 4)`, or
            `(batch, count, 4)` where frames differ.
        clip: `(batch, count)`, where frames clip (`clipping.exclude_clipped`), which then need
            coefficients of their own; None if nothing is to be left out.
    """
    unclipped = None
    if clip is not None:
        burst, unclipped = exclude_clipped(burst, shot, read, clip)
    written = network(burst, shot, read, unclipped)
    if isinstance(written, Tensor):
        return Restored(written, None, None)
    return merge(burst, *written)


class Merged(NamedTuple):
    """A clean burst, without the kernels that made it.

    Attributes:
        clean: `(batch, planes, height, width)`.
        own: `(batch, height, width)`, the weight of the reference's own sample in it; a mean
            over the planes.
    """

    clean: Tensor
    own: Tensor


def restore_in_bands(network: KPN, burst: Tensor, x: Tensor, weights: Tensor) -> Merged:
    """Merge a burst under kernels that are made for some rows at a time, used and forgotten.

    Kernels are 900 bytes a cell: of a whole tile they would fill the memory, and no cache
    would hold them between being made and being used. Not for training.

    Args:
        network: writes kernels.
        burst: as in `restore`.
        x, weights: what the network has `KPN.seen` in it, robust weights last.
    """
    batch, count, planes, height, width = burst.shape
    middle = network.config.kernel**2 // 2
    clean = burst.new_empty(batch, planes, height, width)
    own = burst.new_empty(batch, height, width)
    for band, kernels, done in _filtered(network, burst, x, weights, 1, wide=False):
        clean[:, :, band] = done.mean(1)
        own[:, band] = kernels[:, 0, middle] / count
    merged = Merged(clean, own)
    if network.config.wide:
        wider, centre = widely(network, clean, x, weights)
        merged = Merged(wider, own.mul_(centre))
    return _mixed(network, merged, x) if network.config.scales else merged


def _mixed(network: KPN, merged: Merged, x: Tensor) -> Merged:
    """Let the planes take each other's detail, some rows at a time."""
    clean, own = torch.empty_like(merged.clean), merged.own
    height, width = own.shape[-2:]
    reach = cross_plane.reach(network.config.scales)
    step = max(_BAND // (width * cross_plane.taps(network.config.scales)), 1)
    for top in range(0, height, step):
        band = slice(max(top - reach, 0), min(top + step + reach, height))
        mix = network.mixing(x[:, :, band])
        done = cross_plane.mixed(merged.clean[:, :, band], mix)
        inner = slice(top - band.start, min(top + step, height) - band.start)
        clean[:, :, top : top + step] = done[:, :, inner]
        own[:, top : top + step] *= cross_plane.own(mix)[:, inner]
    return Merged(clean, own)


def widely(network: KPN, picture: Tensor, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Filter a picture with the wide kernels, made for some rows at a time.

    Args:
        network: writes a wide kernel.
        picture: `(batch, planes, height, width)`.
        x, weights: as of `restore_in_bands`.

    Returns:
        The picture, and the centre taps of the kernels, `(batch, height, width)`.
    """
    done, centre = torch.empty_like(picture), torch.empty_like(picture[:, 0])
    middle = network.config.kernel**2 // 2
    bands = _filtered(network, picture[:, None], x, weights, WIDE, frames=False)
    for band, kernels, some in bands:
        done[:, :, band] = some[:, 0]
        # The other taps of kernels of 5 are too far away to have a part of that sample.
        centre[:, band] = kernels[:, 0, middle]
    return done, centre


def _filtered(
    network: KPN, pictures: Tensor, x: Tensor, weights: Tensor, dilation: int, **which: bool
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield rows, their kernels and the pictures filtered with them, band by band."""
    height, width = pictures.shape[-2:]
    side = network.config.kernel
    reach = side // 2 * dilation
    padded = pad_frames(pictures, reach)
    step = max(_BAND // (width * pictures.shape[1] * side**2), 1)
    for top in range(0, height, step):
        band = slice(top, min(top + step, height))
        kernels = network.kernels(x[:, :, band], weights[:, :, band], **which)
        under = padded[:, :, :, top : band.stop + 2 * reach]
        yield band, kernels, filter_padded(under, kernels, dilation)
