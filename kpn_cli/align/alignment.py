"""Align a whole burst: shift every frame onto the reference, match its exposure, drop misfits.

Frames are aligned tile by tile (`block_matching`), compared with the reference on squares spread
over the picture, brought to its exposure where they flicker, and dropped if they show another
scene, moved too far or are heavily blurred.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..burst.frame import Frame, is_mixed, noise_coefficients
from ..image.noise_model import NoiseModel
from ..system.threads import map_in_threads
from . import mixed_exposure
from .block_matching import Aligner, stabilise
from .blur import normalised_gradients, relative_sharpness
from .mixed_exposure import Blocks
from .robustness import robustness_weights, sigma_map
from .warp import TILE, warp_frames

_SQUARE_SIDE = 256  # of the squares on which frames are compared, in cells
_BAND_ROWS = 64  # rows of cells that are stabilised at once: they stay in a core's cache

#: A frame this many times brighter or darker than the reference is dropped; in bursts of mixed
#: exposure, one beyond four EV, and what the shutter is off by.
_MAX_EXPOSURE_RATIO, _MAX_MIXED_RATIO = 3.0, 2**4.25
#: Frames are brought to the reference's exposure if they differ by more than this share, and
#: by more than this many standard errors.
_MIN_FLICKER, _FLICKER_ERRORS = 0.005, 4.0
#: In bursts of mixed exposure by more than this share: long exposures have so little noise that
#: smaller errors show.
_MIN_MIXED_FLICKER = 0.001
#: A block differs if it does so by this many sigmas of its noise and by this share of its
#: brightness.
_DIFFERENT_SIGMAS, _DIFFERENT_SHARE = 6.0, 0.1
#: A frame shows another scene if more than this share of its blocks differ, or if its blocks
#: differ from the reference's, in the median, by more than this share of what unrelated blocks
#: differ by.
_MAX_DIFFERING, _UNRELATED_SHARE = 0.5, 0.6
#: A tile whose mean robustness is below this hardly contributes to the result.
_REJECTED_BELOW = 0.25
#: A frame with fewer edges than this share of the reference's is blurred.
_BLURRED_BELOW = 0.15
#: A frame that differs by nothing but noise has a mean robustness of 0.92; frames from this
#: value on improve the result even beyond the number that the network takes.
_HELPFUL_ROBUSTNESS = 0.9
#: Frames whose clipping points differ by less than this factor are of one exposure.
_EQUAL_ROOM = 1.1
#: Matching the exposure must reduce the blocks' differences to this share, or it is not the
#: exposure that differs.
_MATCHED_SHARE = 0.75
#: Before alignment only larger differences of exposure are matched: a shift alone changes the
#: brightness of blocks too.
_OBVIOUS_FLICKER = 0.15
#: Frames whose exposure was off by more than this share are aligned again, at most this often.
_REALIGN_ABOVE, _MAX_REALIGNMENTS = 0.01, 2


@dataclass(frozen=True, kw_only=True)
class AlignedBurst:
    """The frames that are merged, the reference first, and how they are aligned to it.

    Attributes:
        used: index of each in the burst as it was given; `[0, ...]`.
        frames: the frames, with gains that bring them to the reference's exposure.
        shifts: for each frame `(tile_rows, tile_columns, 2)`, int64: the shift (row, column) of
            each tile of `warp.TILE` cells, in cells. Cell p of the reference is found at
            p + shift in the frame; the reference's own shifts are zero.
        robustness: mean robustness of each frame (`robustness.robustness_weights`), 0 to 1; the
            reference's is 1.
        exposure: brightness of each over the reference's, before it was matched; 1.0 where
            nothing was changed.
        rejected: share of each frame's tiles that show something else than the reference, 0 to 1.
        dropped: index of each other frame -> why it is not used.
    """

    used: list[int]
    frames: list[Frame]
    shifts: list[Tensor]
    robustness: list[float]
    exposure: list[float]
    rejected: list[float]
    dropped: dict[int, str]

    def keep_best(self, count: int, *, headroom: bool = False) -> AlignedBurst:
        """Drop frames that would blur the result if there are more than the network takes.

        Args:
            count: the frames that the network takes, the reference included. The `count` that
                match the reference best are kept, and any others that differ from it by little
                more than noise. In bursts of mixed exposure, those that have most light too.
            headroom: whether one of them is to be the frame that can hold the brightest light and
                agrees best, though it has least light.
        """
        if count < 2 or len(self.used) <= count:
            return self
        worth = mixed_exposure.light_of(self.frames, self.robustness)
        ranked = sorted(range(1, len(self.used)), key=lambda index: -worth[index])
        if headroom:
            # Frames of one exposure have equal room, but for the shutter's error.
            most = max(self.frames[index].clip for index in ranked)
            roomy = (index for index in ranked if self.frames[index].clip > most / _EQUAL_ROOM)
            best = max(roomy, key=lambda index: self.robustness[index])
            ranked.remove(best)
            ranked.insert(0, best)
        kept = [0, *sorted(ranked[: count - 1])]
        kept += sorted(
            index for index in ranked[count - 1 :] if self.robustness[index] >= _HELPFUL_ROBUSTNESS
        )
        rest = set(range(len(self.used))) - set(kept)
        better = "agree better with the reference"
        if is_mixed(self.frames):
            better = "have more light, or agree better with the reference"
        worse = f"{count - 1} others {better}"
        return self._keep(kept, dict.fromkeys((self.used[index] for index in rest), worse))

    def leave_out(self, reasons: dict[int, str]) -> AlignedBurst:
        """Drop frames: index in the burst as it was given -> why; never the reference."""
        if not reasons:
            return self
        kept = [index for index, frame in enumerate(self.used) if frame not in reasons]
        return self._keep(kept, reasons)

    def _keep(self, kept: Sequence[int], dropped: dict[int, str]) -> AlignedBurst:
        return AlignedBurst(
            used=[self.used[index] for index in kept],
            frames=[self.frames[index] for index in kept],
            shifts=[self.shifts[index] for index in kept],
            robustness=[self.robustness[index] for index in kept],
            exposure=[self.exposure[index] for index in kept],
            rejected=[self.rejected[index] for index in kept],
            dropped=self.dropped | dropped,
        )


@dataclass(frozen=True)
class _Comparison:
    """A frame compared with the reference, over squares spread over the picture.

    Attributes:
        robustness: mean of the robustness weights, 0 to 1.
        exposure: median ratio of the blocks' brightness.
        error: standard error of that ratio.
        differing: share of blocks that differ by far more than noise; 1 if they are unrelated
            to the reference's.
        sharpness: number of edges over the reference's.
        rejected: share of tiles that show something else.
    """

    robustness: float = 1.0
    exposure: float = 1.0
    error: float = 0.0
    differing: float = 0.0
    sharpness: float = 1.0
    rejected: float = 0.0

    def certain_exposure(self, least: float = _MIN_FLICKER) -> float:
        """Return the ratio where it certainly differs from 1 by more than a share; else 1."""
        off = abs(self.exposure - 1)
        return self.exposure if off > max(least, _FLICKER_ERRORS * self.error) else 1.0


def align_frames(
    frames: Sequence[Frame], noise: NoiseModel, on_frame: Callable[[], None] = lambda: None
) -> list[Tensor]:
    """Return the tile shifts of each frame against the first, whose own are zero.

    Args:
        frames: of equal size, the reference first.
        noise: of the reference.
        on_frame: called after each other frame.

    Returns:
        As `AlignedBurst.shifts`.
    """
    shifts = {0: _zero_shifts(frames[0])}
    for pair in mixed_exposure.pairs(frames, noise):
        of_others = _align_alike([frames[0], *(frames[n] for n in pair.frames)], pair)
        for n, of_frame in zip(pair.frames, of_others, strict=True):
            shifts[n] = of_frame
            on_frame()
    return [shifts[n] for n in range(len(frames))]


def _align_alike(frames: Sequence[Frame], pair: mixed_exposure.Pair) -> Iterator[Tensor]:
    """Yield the tile shifts of each frame but the first, of equal exposures."""
    aligner = Aligner(_stabilised(frames[0], pair.noise, pair.clip))

    def align(frame: Frame) -> Tensor:
        return aligner.align(_stabilised(frame, pair.noise, pair.clip))

    yield from map_in_threads(align, frames[1:], on_cpu=_is_on_cpu(frames))


def _is_on_cpu(frames: Sequence[Frame]) -> bool:
    return frames[0].samples.device.type == "cpu"


def _stabilised(frame: Frame, noise: NoiseModel, clip: float) -> Tensor:
    """Return a frame as `stabilise` does, without holding all of it in floating point.

    Args:
        frame: a frame.
        noise: for which it is stabilised.
        clip: the signal to which it is clipped.
    """
    height, width = frame.size
    device = frame.samples.device
    grey = torch.empty(height, width, device=device)
    memory = torch.empty(4, min(_BAND_ROWS, height), width, device=device)
    for top in range(0, height, _BAND_ROWS):
        band = frame.samples[:, top : top + _BAND_ROWS]
        linear = frame.linear(band, memory[:, : band.shape[1]])
        if clip < math.inf:
            linear.clamp_max_(clip)
        grey[top : top + _BAND_ROWS] = stabilise(linear, noise)
    return grey


def align_burst(
    frames: Sequence[Frame],
    noise: NoiseModel,
    on_frame: Callable[[], None] = lambda: None,
    stated: Sequence[float] | None = None,
) -> AlignedBurst:
    """Align frames to the first, match their exposure, drop those of another scene.

    Args:
        frames: of equal size, the reference first.
        noise: of the reference.
        on_frame: called after each other frame.
        stated: brightness of each frame over the reference's by its exposure settings, which may
            be wrong; None where all are the same. Frames of mixed exposure, which have noise models
            of their own, differ by that unless they clearly show something else.
    """
    stated = stated or [1.0] * len(frames)
    mixed = is_mixed(frames)
    least = _MIN_MIXED_FLICKER if mixed else _MIN_FLICKER
    if mixed:
        as_stated = [_matched(frame, value) for frame, value in zip(frames, stated, strict=True)]
        unaligned = _compare_unaligned(as_stated, noise)
        # Shutters are off by a few per cent. In smooth pictures that passes for a shift, and once
        # frames are aligned by it, they do not show it any more.
        exposure = [
            value * comparison.certain_exposure(least)
            for comparison, value in zip(unaligned, stated, strict=True)
        ]
    else:
        unaligned = _compare_unaligned(frames, noise)
        exposure = [
            _first_exposure(comparison, likely)
            for comparison, likely in zip(unaligned, stated, strict=True)
        ]
    most = _MAX_MIXED_RATIO if mixed else _MAX_EXPOSURE_RATIO
    dropped = {
        n: f"{value:.2g} times as bright as the reference"
        for n, value in enumerate(exposure)
        if not 1 / most <= value <= most
    }
    used = [n for n in range(len(frames)) if n not in dropped]
    exposure = [exposure[n] for n in used]
    matched = [_matched(frames[n], value) for n, value in zip(used, exposure, strict=True)]
    shifts = align_frames(matched, noise, on_frame)
    for trial in range(_MAX_REALIGNMENTS + 1):
        # Between aligned frames the ratio of exposures is better known.
        comparisons = _compare(matched, shifts, noise)
        factors = [comparison.certain_exposure(least) for comparison in comparisons]
        if all(factor == 1 for factor in factors):
            break
        exposure = [value * factor for value, factor in zip(exposure, factors, strict=True)]
        exposure = [1.0 if abs(value - 1) <= _MIN_FLICKER else value for value in exposure]
        matched = [_matched(frames[n], value) for n, value in zip(used, exposure, strict=True)]
        again = [i for i, factor in enumerate(factors) if abs(factor - 1) > _REALIGN_ABOVE]
        if not again or trial == _MAX_REALIGNMENTS:
            break
        realigned = align_frames([matched[0], *(matched[i] for i in again)], noise)[1:]
        for i, shift in zip(again, realigned, strict=True):
            shifts[i] = shift
    if any(factor != 1 for factor in factors):
        comparisons = _compare(matched, shifts, noise)
    kept = []
    for i, (n, comparison) in enumerate(zip(used, comparisons, strict=True)):
        if comparison.differing > _MAX_DIFFERING:
            dropped[n] = "shows something else, or moved too far"
        elif comparison.sharpness < _BLURRED_BELOW:
            dropped[n] = "heavily blurred"
        else:
            kept.append(i)
    return AlignedBurst(
        used=[used[i] for i in kept],
        frames=[matched[i] for i in kept],
        shifts=[shifts[i] for i in kept],
        robustness=[comparisons[i].robustness for i in kept],
        exposure=[exposure[i] for i in kept],
        rejected=[comparisons[i].rejected for i in kept],
        dropped=dropped,
    )


def _first_exposure(unaligned: _Comparison, stated: float) -> float:
    """Return the exposure to match before alignment: an obvious one, or the stated one.

    The stated one if the frames show it rather than none.
    """
    shown = unaligned.certain_exposure()
    if _obvious(unaligned) != 1:
        return shown
    return stated if abs(math.log2(shown / stated)) < abs(math.log2(shown)) else 1.0


def _obvious(unaligned: _Comparison) -> float:
    """Return how many times brighter a frame is than it should be, if that is obvious; else 1."""
    shown = unaligned.certain_exposure()
    return shown if abs(shown - 1) > _OBVIOUS_FLICKER else 1.0


def _zero_shifts(frame: Frame) -> Tensor:
    """Return the shifts of a frame that did not move, `(tile_rows, tile_columns, 2)`."""
    rows, columns = (-(-side // TILE) for side in frame.size)
    return torch.zeros(rows, columns, 2, dtype=torch.int64, device=frame.samples.device)


def _matched(frame: Frame, exposure: float) -> Frame:
    """Return a frame whose gain undoes its exposure, relative to the reference's."""
    return frame if exposure == 1 else replace(frame, gain=frame.gain / exposure)


def _compare_unaligned(frames: Sequence[Frame], noise: NoiseModel) -> list[_Comparison]:
    """Compare the brightness of each frame with the first's, as they are; nothing else."""
    if len(frames) == 1:
        return [_Comparison()]
    coefficients = noise_coefficients(noise, frames[0].samples.device)

    def of_square(square: tuple[slice, slice]) -> Blocks:
        rows, columns = square
        burst = torch.stack([frame.linear(frame.samples[:, rows, columns]) for frame in frames])
        if is_mixed(frames):
            return mixed_exposure.blocks(burst, frames, noise)
        return mixed_exposure.plain_blocks(burst, sigma_map(burst[:1], *coefficients))

    squares = list(sample_squares(*frames[0].size))
    parts = list(map_in_threads(of_square, squares, on_cpu=_is_on_cpu(frames)))
    blocks = Blocks.joined(parts)
    others = [
        _compare_blocks(1.0, *blocks.with_reference(n), mixed=is_mixed(frames))
        for n in range(1, len(frames))
    ]
    return [_Comparison(), *others]


def _compare(
    frames: Sequence[Frame], shifts: Sequence[Tensor], noise: NoiseModel
) -> list[_Comparison]:
    """Compare each frame with the first, on `sample_squares`."""
    if len(frames) == 1:
        return [_Comparison()]
    coefficients = noise_coefficients(noise, frames[0].samples.device)

    def of_square(square: tuple[slice, slice]) -> _Square:
        burst = warp_frames(frames, shifts, *square)
        if is_mixed(frames):
            return _compare_mixed(burst, frames, noise)
        sigma = sigma_map(burst[:1], *coefficients)
        differences = (burst[1:] - burst[:1]) / (2**0.5 * sigma)
        weights = robustness_weights(differences[None])[0]
        return _Square(
            weights.mean((1, 2)).cpu(),
            (_tile_means(weights) < _REJECTED_BELOW).float().flatten(1).cpu(),
            normalised_gradients(burst, sigma[0].square()),
            mixed_exposure.plain_blocks(burst, sigma),
        )

    squares = list(sample_squares(*frames[0].size))
    parts = list(map_in_threads(of_square, squares, on_cpu=_is_on_cpu(frames)))
    means = torch.stack([part.robustness for part in parts]).mean(0).tolist()
    blocks = Blocks.joined([part.blocks for part in parts])
    shares = torch.cat([part.rejected for part in parts], 1).mean(1).tolist()
    sharpness = relative_sharpness([part.gradients for part in parts])[1:]
    comparisons = [
        replace(
            _compare_blocks(mean, *blocks.with_reference(n), mixed=is_mixed(frames)),
            sharpness=sharp,
            rejected=share,
        )
        for n, (mean, sharp, share) in enumerate(zip(means, sharpness, shares, strict=True), 1)
    ]
    return [_Comparison(), *comparisons]


class _Square(NamedTuple):
    """What is compared of a square of the picture.

    Attributes:
        robustness: `(frames - 1,)`, mean of the robustness weights.
        rejected: `(frames - 1, tiles)`, 1 for tiles that show something else.
        gradients: `blur.normalised_gradients`.
        blocks: their brightness.
    """

    robustness: Tensor
    rejected: Tensor
    gradients: list[Tensor]
    blocks: Blocks


def _compare_mixed(burst: Tensor, frames: Sequence[Frame], noise: NoiseModel) -> _Square:
    """Compare a square of frames of mixed exposure, where neither frame is clipped."""
    found = mixed_exposure.agreement(burst, frames, noise)
    share = found.comparable.mean((1, 2))
    agreeing = (found.weights * found.comparable).mean((1, 2))
    # What cannot be compared agrees as well as the rest.
    robustness = torch.where(share > 0, agreeing / share.clamp_min(1e-6), 1.0)
    comparable = _tile_means(found.comparable)
    tiles = _tile_means(found.weights * found.comparable)
    rejected = (tiles < _REJECTED_BELOW * comparable) & (comparable > _REJECTED_BELOW)
    return _Square(
        robustness.cpu(),
        rejected.float().flatten(1).cpu(),
        normalised_gradients(found.burst, found.variance),
        mixed_exposure.blocks(burst, frames, noise),
    )


def _tile_means(values: Tensor) -> Tensor:
    """Return the means of `(frames, height, width)` over alignment tiles."""
    return F.avg_pool2d(values[:, None], min(TILE, *values.shape[-2:]))


def _compare_blocks(
    robustness: float, frame: Tensor, reference: Tensor, sigma: Tensor, *, mixed: bool = False
) -> _Comparison:
    """Compare the brightness of blocks.

    Args:
        robustness: of the frame, for the result.
        frame, reference: `(blocks,)`, sums over each block.
        sigma: `(blocks,)`, noise of the reference's sums.
        mixed: whether exposures differ by design. Shutters are then off by a few per cent, which
            only the half of the blocks with least noise tells.
    """
    bright = reference > 3 * sigma
    if mixed:
        bright &= reference >= (reference / sigma).median() * sigma
    if int(bright.sum()) < 8:
        return _Comparison(robustness)
    ratios = frame[bright] / reference[bright]
    exposure = ratios.median()
    spread = 1.48 * (ratios - exposure).abs().median()  # sigma of a normal distribution
    error = 1.25 * spread / len(ratios) ** 0.5
    off = (frame - reference).abs()
    far_off = not 1 / _MAX_EXPOSURE_RATIO <= exposure <= _MAX_EXPOSURE_RATIO
    if not (mixed or far_off) and (
        (frame / exposure - reference).abs().median() > _MATCHED_SHARE * off.median()
    ):
        exposure = torch.ones(())
    differs = (off > _DIFFERENT_SIGMAS * 2**0.5 * sigma) & (
        off > _DIFFERENT_SHARE * reference.abs()
    )
    differing = float(differs.cpu().double().mean())
    unrelated = (frame - reference.roll(len(reference) // 3 + 1)).abs().median()
    if unrelated > 5 * 2**0.5 * sigma.median():  # else the picture shows nothing but noise
        differing = differing if off.median() < _UNRELATED_SHARE * unrelated else 1.0
    return _Comparison(robustness, float(exposure), float(error), differing)


def sample_squares(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of up to 16 squares spread over a picture, in cells."""
    for top in _square_starts(height):
        for left in _square_starts(width):
            yield (
                slice(top, min(top + _SQUARE_SIDE, height)),
                slice(left, min(left + _SQUARE_SIDE, width)),
            )


def _square_starts(length: int) -> list[int]:
    """Return where up to 4 evenly spread squares start along a side."""
    number = min(4, max(1, length // _SQUARE_SIDE))
    if length <= _SQUARE_SIDE:
        return [0]
    return [round((length - _SQUARE_SIDE) * i / max(number - 1, 1)) for i in range(number)]
