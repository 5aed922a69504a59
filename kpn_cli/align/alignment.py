"""Align a whole burst: shift every frame onto the reference, match its exposure, drop misfits.

Frames are aligned tile by tile (`block_matching`), compared with the reference on squares spread
over the picture, brought to its exposure where they flicker, and dropped if they show another
scene, moved too far or are heavily blurred.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..burst.frame import Frame, noise_coefficients
from ..image.noise_model import NoiseModel
from ..system.threads import map_in_threads
from .block_matching import Aligner, stabilise
from .blur import normalised_gradients, relative_sharpness
from .robustness import robustness_weights, sigma_map
from .warp import TILE, warp_frames

_SQUARE_SIDE = 256  # of the squares on which frames are compared, in cells
_BAND_ROWS = 64  # rows of cells that are stabilised at once: they stay in a core's cache
_BLOCK_SIDE = 16  # of the blocks whose brightness is compared, in cells

#: A frame this many times brighter or darker than the reference is dropped.
_MAX_EXPOSURE_RATIO = 3.0
#: Frames are brought to the reference's exposure if they differ by more than this share, and
#: by more than this many standard errors.
_MIN_FLICKER, _FLICKER_ERRORS = 0.005, 4.0
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

    def keep_best(self, count: int) -> AlignedBurst:
        """Drop frames that would blur the result if there are more than the network takes.

        Args:
            count: the frames that the network takes, the reference included. The `count` that
                match the reference best are kept, and any others that differ from it by little
                more than noise.
        """
        if count < 2 or len(self.used) <= count:
            return self
        ranked = sorted(range(1, len(self.used)), key=lambda index: -self.robustness[index])
        kept = [0, *sorted(ranked[: count - 1])]
        kept += sorted(
            index for index in ranked[count - 1 :] if self.robustness[index] >= _HELPFUL_ROBUSTNESS
        )
        rest = set(range(len(self.used))) - set(kept)
        worse = f"{count - 1} others agree better with the reference"
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

    @property
    def certain_exposure(self) -> float:
        """The ratio where it certainly is not 1; else 1."""
        off = abs(self.exposure - 1)
        return self.exposure if off > max(_MIN_FLICKER, _FLICKER_ERRORS * self.error) else 1.0


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
    if len(frames) == 1:
        return [_zero_shifts(frames[0])]
    aligner = Aligner(_stabilised(frames[0], noise))

    def align(frame: Frame) -> Tensor:
        return aligner.align(_stabilised(frame, noise))

    shifts = [_zero_shifts(frames[0])]
    for of_frame in map_in_threads(align, frames[1:], on_cpu=_is_on_cpu(frames)):
        shifts.append(of_frame)
        on_frame()
    return shifts


def _is_on_cpu(frames: Sequence[Frame]) -> bool:
    return frames[0].samples.device.type == "cpu"


def _stabilised(frame: Frame, noise: NoiseModel) -> Tensor:
    """Return a frame as `stabilise` does, without holding all of it in floating point."""
    height, width = frame.size
    device = frame.samples.device
    grey = torch.empty(height, width, device=device)
    memory = torch.empty(4, min(_BAND_ROWS, height), width, device=device)
    for top in range(0, height, _BAND_ROWS):
        band = frame.samples[:, top : top + _BAND_ROWS]
        linear = frame.linear(band, memory[:, : band.shape[1]])
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
            be wrong; None where all are the same.
    """
    unaligned = _compare_unaligned(frames, noise)
    exposure = [
        _first_exposure(comparison, likely)
        for comparison, likely in zip(unaligned, stated or [1.0] * len(frames), strict=True)
    ]
    dropped = {
        n: f"{value:.2g} times as bright as the reference"
        for n, value in enumerate(exposure)
        if not 1 / _MAX_EXPOSURE_RATIO <= value <= _MAX_EXPOSURE_RATIO
    }
    used = [n for n in range(len(frames)) if n not in dropped]
    exposure = [exposure[n] for n in used]
    matched = [_matched(frames[n], value) for n, value in zip(used, exposure, strict=True)]
    shifts = align_frames(matched, noise, on_frame)
    for trial in range(_MAX_REALIGNMENTS + 1):
        # Between aligned frames the ratio of exposures is better known.
        comparisons = _compare(matched, shifts, noise)
        factors = [comparison.certain_exposure for comparison in comparisons]
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
    shown = unaligned.certain_exposure
    if abs(shown - 1) > _OBVIOUS_FLICKER:
        return shown
    return stated if abs(math.log2(shown / stated)) < abs(math.log2(shown)) else 1.0


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

    def of_square(square: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
        rows, columns = square
        burst = torch.stack([frame.linear(frame.samples[:, rows, columns]) for frame in frames])
        return _brightness(burst, sigma_map(burst[:1], *coefficients))

    squares = list(sample_squares(*frames[0].size))
    sums, deviations = zip(
        *map_in_threads(of_square, squares, on_cpu=_is_on_cpu(frames)), strict=True
    )
    brightness, sigmas = torch.cat(sums, 1), torch.cat(deviations, 1)[0]
    others = [_compare_blocks(1.0, blocks, brightness[0], sigmas) for blocks in brightness[1:]]
    return [_Comparison(), *others]


def _compare(
    frames: Sequence[Frame], shifts: Sequence[Tensor], noise: NoiseModel
) -> list[_Comparison]:
    """Compare each frame with the first, on `sample_squares`."""
    if len(frames) == 1:
        return [_Comparison()]
    coefficients = noise_coefficients(noise, frames[0].samples.device)

    def of_square(
        square: tuple[slice, slice],
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor, Tensor]:
        burst = warp_frames(frames, shifts, *square)
        sigma = sigma_map(burst[:1], *coefficients)
        differences = (burst[1:] - burst[:1]) / (2**0.5 * sigma)
        weights = robustness_weights(differences[None])[0]
        tiles = F.avg_pool2d(weights[:, None], min(TILE, *weights.shape[-2:]))
        return (
            weights.mean((1, 2)).cpu(),
            (tiles < _REJECTED_BELOW).float().flatten(1).cpu(),
            normalised_gradients(burst, sigma[0].square()),
            *_brightness(burst, sigma),
        )

    squares = list(sample_squares(*frames[0].size))
    robustness, rejected, gradients, sums, deviations = zip(
        *map_in_threads(of_square, squares, on_cpu=_is_on_cpu(frames)), strict=True
    )
    means = torch.stack(robustness).mean(0).tolist()
    brightness, sigmas = torch.cat(sums, 1), torch.cat(deviations, 1)[0]
    shares = torch.cat(rejected, 1).mean(1).tolist()
    sharpness = relative_sharpness(gradients)[1:]
    comparisons = [
        replace(
            _compare_blocks(mean, blocks, brightness[0], sigmas), sharpness=sharp, rejected=share
        )
        for mean, blocks, sharp, share in zip(means, brightness[1:], sharpness, shares, strict=True)
    ]
    return [_Comparison(), *comparisons]


def _brightness(burst: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums over the blocks of frames, and the reference's noise in them."""
    # In this order: MPS has no float64.
    return _block_sums(burst).cpu().double(), _block_sums(sigma.square()).sqrt().cpu().double()


def _compare_blocks(
    robustness: float, frame: Tensor, reference: Tensor, sigma: Tensor
) -> _Comparison:
    """Compare the brightness of blocks.

    Args:
        robustness: of the frame, for the result.
        frame, reference: `(blocks,)`, sums over each block.
        sigma: `(blocks,)`, noise of the reference's sums.
    """
    bright = reference > 3 * sigma
    if int(bright.sum()) < 8:
        return _Comparison(robustness)
    ratios = frame[bright] / reference[bright]
    exposure = ratios.median()
    spread = 1.48 * (ratios - exposure).abs().median()  # sigma of a normal distribution
    error = 1.25 * spread / len(ratios) ** 0.5
    off = (frame - reference).abs()
    far_off = not 1 / _MAX_EXPOSURE_RATIO <= exposure <= _MAX_EXPOSURE_RATIO
    if not far_off and (
        (frame / exposure - reference).abs().median() > _MATCHED_SHARE * off.median()
    ):
        exposure = torch.ones(())
    differs = (off > _DIFFERENT_SIGMAS * 2**0.5 * sigma) & (
        off > _DIFFERENT_SHARE * reference.abs()
    )
    differing = float(differs.double().mean())
    unrelated = (frame - reference.roll(len(reference) // 3 + 1)).abs().median()
    if unrelated > 5 * 2**0.5 * sigma.median():  # else the picture shows nothing but noise
        differing = differing if off.median() < _UNRELATED_SHARE * unrelated else 1.0
    return _Comparison(robustness, float(exposure), float(error), differing)


def _block_sums(planes: Tensor) -> Tensor:
    """Sum over blocks and planes: `(frames, 4, height, width)` -> `(frames, blocks)`."""
    side = min(_BLOCK_SIDE, *planes.shape[-2:])
    rows, columns = (length // side for length in planes.shape[-2:])
    blocks = planes[..., : rows * side, : columns * side].reshape(
        *planes.shape[:2], rows, side, columns, side
    )
    return blocks.sum((1, 3, 5)).flatten(1)


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
