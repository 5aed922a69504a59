"""Merge one tile: aligned frames -> clean planes.

The network's kernels merge the frames, in groups if there are more than it takes; strength,
green equilibration and the fallback to the reference follow.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..align.mixed_exposure import Comparable
from ..align.warp import warp_frames
from ..burst.frame import Frame, is_mixed, matched_noise, noise_coefficients
from ..image.noise_model import NoiseModel
from ..network.apply_kernels import Merged, filter_dilated, restore_in_bands
from ..network.kpn import KPN, Encoded
from ..noise.profile_check import observed_sigma_ratio
from ..system.device import autocast
from .green_equilibration import equilibrate_greens
from .guard import CLIPPED, fall_back_to_reference, keep_clipped
from .headroom import Headroom, brighter_first, extend_highlights, is_brighter
from .strength import DilatedFilter, apply_strength, assumed_share

#: Share of its noise that a frame keeps where the residual noise is measured; the rest is drawn
#: anew. With more, what kernels add by following the noise counts up to three times; with less,
#: the frames show nothing but the clean picture, and its lost texture is merged more strongly.
_NOISE_KEPT = 0.5
#: What differs from the clean picture by more sigmas is no noise, but motion or a defect.
_MOST_SIGMAS = 3.5


def frame_groups(count: int, network_frames: int) -> list[list[int]]:
    """Deal out frames 0 to count - 1 to groups that the network can take.

    The reference, 0, is in every group; the others are dealt out in turn.

    Args:
        count: frames of the burst.
        network_frames: the most frames that the network takes.
    """
    if network_frames == 1 or count == 1:
        return [[0]]
    number = -(-(count - 1) // (network_frames - 1))
    return [[0, *range(1 + first, count, number)] for first in range(number)]


@dataclass(frozen=True)
class MergedTile:
    """A merged tile of the picture.

    Attributes:
        burst: `(1, frames, 4, rows, columns)`, linear, aligned to the reference; in bursts of mixed
            exposure without clipped samples (`mixed_exposure.Comparable`).
        clean: `(1, 4, rows, columns)`, linear.
        share: `(1, 1, rows, columns)`, share of the network's result in `clean`, 0 to 1; the
            rest is the reference (`guard.fall_back_to_reference`).
        encoded: what the kernels of each group of frames are computed from, if it was to be kept.
        filled: whether shorter exposures have replaced clipped highlights (`headroom`).
        brighter: whether it is brighter now than the reference can hold.
    """

    burst: Tensor
    clean: Tensor
    share: Tensor
    encoded: list[Encoded]
    filled: bool = False
    brighter: bool = False


class _Group(NamedTuple):
    """Frames that are merged at once.

    Attributes:
        burst: `(batch, frames, 4, rows, columns)`, linear.
        members: their indices in the burst.
        unclipped: `(batch, frames, rows, columns)`, weights of `clipping.exclude_clipped`; None in
            bursts of one exposure.
    """

    burst: Tensor
    members: list[int]
    unclipped: Tensor | None


def _variance(clean: Tensor, shot: Tensor, read: Tensor) -> Tensor:
    """Return the variance of noise where the signal is `clean`.

    Args:
        clean: `(..., 4, rows, columns)`.
        shot, read: `(..., 4)`.
    """
    shot, read = shot[..., None, None], read[..., None, None]
    return (shot * clean.clamp_min(0) + read).clamp_min_(1e-10)


class TileMerger:
    """Merges the frames of a burst, tile by tile.

    If there are more frames than the network takes, they are merged in groups. Each group
    contains the reference, and the results of the groups are averaged; in bursts of mixed exposure,
    by the total weight of each group's frames at a cell.

    Attributes:
        assumed_noise: shot and read noise that the network assumes, `(1, 4)` each: the
            reference's, its sigma times the strength.
        groups: the indices of the frames in each group (`frame_groups`).
        grid: tiles start at multiples of it (`tiling.spans`).
    """

    def __init__(
        self,
        network: KPN,
        frames: Sequence[Frame],
        shifts: Sequence[Tensor],
        noise: NoiseModel,
        *,
        strength: float = 1.0,
        dtype: torch.dtype = torch.float32,
        observed: float | None = None,
        headroom: Headroom | None = None,
    ) -> None:
        """Prepare a burst; see `merge.denoise_frames` for the arguments.

        The noise that is stated is assumed; `observed` widens the limits of the guard alone.
        """
        self._network, self._frames, self._shifts = network, frames, shifts
        self._noise_model, self._strength = noise, strength
        # The order of frames in which one that has more room for highlights is the reference.
        self._roomy_first = brighter_first(frames) if headroom is not None else None
        self._headroom = headroom
        self._device, self._dtype = frames[0].samples.device, dtype
        self._true_noise = noise_coefficients(noise, self._device)
        self.assumed_noise = noise_coefficients(noise.with_strength(strength), self._device)
        self._comparable = Comparable(frames, noise, self._device) if is_mixed(frames) else None
        # The guard allows larger differences at higher strength, which removes more than noise,
        # and where the stated noise is too low: there it is not the result that is wrong.
        if observed is None:
            observed = observed_sigma_ratio(frames, shifts, noise)
        allowed = max(strength, 1.0) * observed
        self._allowed_noise = noise_coefficients(noise.with_strength(allowed), self._device)
        self.grid = network.config.stride
        self.groups = frame_groups(len(frames), network.config.frames)

    def _brighter(self, burst: Tensor, order: Sequence[int]) -> Tensor:
        """Merge a part with a frame that has more room for highlights as the reference.

        Args:
            burst: `(batch, frames, 4, rows, columns)`, as recorded.
            order: of its frames, that one first.

        Returns:
            `(batch, 4, rows, columns)`, in the exposure of the burst.
        """
        # In that frame's own exposure: beyond white, the network has learned nothing.
        room = self._frames[order[0]].clip
        frames = [replace(frame, gain=frame.gain / room) for frame in self._frames]
        frames = [frames[n] for n in order]
        noise = matched_noise(frames[:1], self._noise_model)[0]
        shifts = [self._shifts[n] for n in order]
        merger = TileMerger(
            self._network,
            frames,
            shifts,
            noise,
            strength=self._strength,
            dtype=self._dtype,
            observed=1.0,
        )
        return merger._merge(burst[:, order] / room, keep_encoded=False).clean * room

    def in_floating_point(self) -> TileMerger:
        """Return a merger of the same burst without integers (`KPN.engine`).

        The residual noise is measured on parts of sizes that an engine is not compiled for.
        """
        if self._network.engine is None:
            return self
        merger = copy.copy(self)
        merger._network = copy.copy(self._network)
        merger._network.engine = None
        return merger

    def merge(self, rows: slice, columns: slice, *, keep_encoded: bool = False) -> MergedTile:
        """Merge a tile of the picture.

        Args:
            rows, columns: of the tile, in cells.
            keep_encoded: whether `kernels` will be called for it; 256 bytes a cell for each group.
        """
        burst = self.warped(rows, columns)
        with torch.inference_mode(), autocast(self._device, self._dtype):
            return self._merge(burst, keep_encoded)

    def merged(self, bursts: Tensor) -> Tensor:
        """Return the clean planes of several parts of the picture (`warped`).

        Args:
            bursts: `(batch, frames, 4, rows, columns)`.

        Returns:
            `(batch, 4, rows, columns)`, linear.
        """
        with torch.inference_mode(), autocast(self._device, self._dtype):
            return self._merge(bursts, keep_encoded=False).clean

    def warped(self, rows: slice, columns: slice) -> Tensor:
        """Return a part of the frames, aligned and linear: `(1, frames, 4, rows, columns)`."""
        return warp_frames(self._frames, self._shifts, rows, columns)[None]

    def _merge(self, burst: Tensor, keep_encoded: bool) -> MergedTile:
        encoded, results, totals = [], [], []
        recorded, unclipped = burst, None
        if self._comparable is not None:
            burst, unclipped = self._comparable.exclude(burst)
        for members in self.groups:
            of_group = None if unclipped is None else unclipped[:, members]
            group = _Group(burst[:, members], members, of_group)
            if self._network.config.output == "pixels":
                results.append(self._merge_to_pixels(group))
                continue
            merged, kept = self._merge_group(group)
            results.append(merged)
            totals.append(kept.weights.sum(1))
            if keep_encoded:
                encoded.append(kept)
        clean, reference_weight = self._average(results, totals)
        reference = burst[:, 0]
        clean = equilibrate_greens(clean, reference, reference_weight, *self.assumed_noise)
        clip = 1.0 if self._comparable is None else self._frames[0].clip
        clean, share = fall_back_to_reference(
            clean,
            reference,
            reference_weight,
            *self._allowed_noise,
            burst[:, 1:],
            clip=clip,
            unclipped=None if unclipped is None else unclipped[:, 1:],
        )
        if self._comparable is None:
            return MergedTile(burst, clean, share, encoded)
        clean = keep_clipped(clean, reference, clip)
        order = self._roomy_first
        if self._headroom is None or order is None:
            return MergedTile(burst, clean, share, encoded)
        extended = extend_highlights(
            clean,
            recorded[:, 0],
            self._comparable,
            self._headroom,
            lambda: self._brighter(recorded, order),
        )
        filled = extended is not clean
        brighter = filled and is_brighter(extended, self._comparable)
        return MergedTile(burst, extended, share, encoded, filled, brighter)

    def probe_noise(
        self, bursts: Tensor, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Measure what is left of noise: draw part of it anew, twice, and merge both.

        A frame x of the clean signal c becomes c + k (x - c) + sqrt(1 - k^2) n, with k
        `_NOISE_KEPT` and n noise like its own: it has as much noise as before. The kernels are
        computed again, so they follow the noise as they really do. At the border of a part, where
        its surroundings lack, the measure is off.

        Args:
            bursts: `(batch, frames, 4, rows, columns)`, parts of the picture (`warped`).
            clean: `(batch, 4, rows, columns)`, what they were merged to.
            generator: of the noise, on the CPU.

        Returns:
            For each sample an estimate of its residual variance, over that of the reference's
            noise; and whether it counts: clipped samples have no noise.
            `(batch, 4, rows, columns)` both.
        """
        with torch.inference_mode():
            if self._strength < 1:  # what it keeps of the noise is not the clean signal
                clean = self._at_full_strength().merged(bursts)
            sigma = self._variance(clean).sqrt_()
            of_frames, clips = sigma[:, None], bursts.new_ones(1)
            if self._comparable is not None:
                coefficients = self._comparable.shot, self._comparable.read
                of_frames = _variance(clean[:, None], *coefficients).sqrt_()
                clips = self._comparable.clips[:, :, None, None, None]
            unclipped = bursts < CLIPPED * clips
            noise = (bursts - clean[:, None]).clamp_(
                -_MOST_SIGMAS * of_frames, _MOST_SIGMAS * of_frames
            )
            kept = bursts - (1 - _NOISE_KEPT) * noise.mul_(unclipped)
            drawn = of_frames * unclipped * (1 - _NOISE_KEPT**2) ** 0.5
            results = []
            for _ in range(2):
                fresh = torch.randn(bursts.shape, generator=generator).to(bursts)
                renewed = torch.where(unclipped, kept.addcmul(drawn, fresh).minimum(clips), bursts)
                results.append(self.merged(renewed))
            squares = ((results[0] - results[1]) / sigma).square_() / (2 * (1 - _NOISE_KEPT**2))
            return squares, unclipped[:, 0]

    def _at_full_strength(self) -> TileMerger:
        """Return a merger of the same burst whose strength is 1."""
        merger = copy.copy(self)
        merger._strength, merger.assumed_noise = 1.0, self._true_noise
        return merger

    def _variance(self, clean: Tensor) -> Tensor:
        """Return the variance of the true noise in a reference whose clean planes are these."""
        return _variance(clean, *self._true_noise)

    def _average(self, results: Sequence[Merged], totals: Sequence[Tensor]) -> Merged:
        """Return the mean of the groups' results.

        Args:
            results: of the groups.
            totals: `(batch, rows, columns)` of each: the sum of its frames' weights, from which the
                kernels start; by it groups of mixed exposure are weighted.
        """
        clean, reference_weight = (torch.stack(values) for values in zip(*results, strict=True))
        if self._comparable is None or len(results) == 1 or not totals:
            return Merged(clean.mean(0), reference_weight.mean(0))
        shares = torch.stack(list(totals))
        shares /= shares.sum(0)
        return Merged((clean * shares[:, :, None]).sum(0), (reference_weight * shares).sum(0))

    def _noise(self, group: _Group, strength: float) -> tuple[Tensor, Tensor]:
        """Return the noise of a group's frames as the network takes it, sigma times the strength.

        `(1, 4)` each for all frames; in bursts of mixed exposure, `(1, frames, 4)`.
        """
        if self._comparable is None:
            return self._true_noise if strength == 1 else self.assumed_noise
        shot, read = self._comparable.shot, self._comparable.read
        return shot[:, group.members] * strength**2, read[:, group.members] * strength**2

    def _merge_group(self, group: _Group) -> tuple[Merged, Encoded]:
        """Merge the frames of a group.

        Returns:
            The result, and what the kernels under the assumed noise are computed from.
        """
        if self._strength <= 1:
            return self._merge_under(group, self._strength)
        plain, _ = self._merge_under(group, 1.0)
        assumed, encoded = self._merge_under(group, self._strength)
        variance = self._variance(plain.clean)
        share = assumed_share(plain.clean, assumed.clean, variance)
        dilated_filter: DilatedFilter | None = None
        if self._network.config.wide:
            dilated_filter = partial(filter_dilated, self._network, x=encoded.features)
        merged = apply_strength(
            plain, assumed, share, variance.sqrt_(), self._strength, dilated_filter
        )
        return merged, encoded

    def _merge_under(self, group: _Group, strength: float) -> tuple[Merged, Encoded]:
        """Merge frames with the kernels that the network predicts for the noise at a strength."""
        noise = self._noise(group, strength)
        encoded = self._network.encoded(group.burst, *noise, group.unclipped)
        return restore_in_bands(self._network, group.burst, encoded), encoded

    def _merge_to_pixels(self, group: _Group) -> Merged:
        noise = self._noise(group, self._strength)
        clean = self._network(group.burst, *noise, group.unclipped)
        return Merged(clean, torch.zeros_like(clean[:, 0]))

    def kernels(
        self, tile: MergedTile, rows: slice = slice(None), columns: slice = slice(None)
    ) -> list[Tensor]:
        """Return the kernels of each group for some cells of a tile; 900 bytes a cell.

        Above strength 1 they are those under the assumed noise, which are used where they
        remove more than noise.

        Args:
            tile: merged with `keep_encoded`.
            rows, columns: of the tile, in cells.

        Returns:
            `(1, members, K*K, rows, columns)` each, and one kernel more if the network has a
            dilated one; an empty list for a network that predicts pixels.
        """
        with torch.inference_mode():
            return [
                self._network.kernels(of_group.part(rows, columns)) for of_group in tile.encoded
            ]
