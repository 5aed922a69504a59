"""Which frames of a burst are used, how they lie over the reference, and how bright they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..burst.frame import Frame, noise_coefficients
from ..image.noise_model import NoiseModel
from .block_matching import Aligner, stabilise
from .blur import contrasts, sharpness
from .robustness import robust_weights, sigma_map
from .warp import TILE, aligned_part

_SQUARE = 256  # side of the squares on which frames are compared, in cells
_BAND = 64  # rows of cells that are worked on at once where whole frames are
_BLOCK = 16  # side of the blocks in them whose brightness is compared

#: A frame this many times brighter or darker than the reference is none of the burst.
_MOST_EXPOSURE = 3.0
#: Frames are brought to the reference's brightness where they differ by more than this, and
#: by more than so many standard errors.
_LEAST_FLICKER, _CERTAIN = 0.005, 4.0
#: A block differs if it does by so many sigmas of its noise, and by this share of its
#: brightness; a frame is of something else if more than this share of its blocks differ, or
#: if they differ in the median by this share of what blocks of other places differ by.
_SIGMAS, _RELATIVE, _ELSEWHERE, _BY_CHANCE = 6.0, 0.1, 0.5, 0.6
#: A tile whose mean robust weight is below this is hardly used.
_REJECTED = 0.25
#: A frame with fewer edges than this share of the reference's is blurred.
_BLURRED = 0.15
#: Agreement of a frame that shows nothing but other noise is 0.92; from here on, more frames than
#: the network takes are of use.
_AGREES = 0.9
#: Matching the brightness has to make the blocks' differences so much smaller.
_BETTER = 0.75
#: Before frames are aligned, only such differences say something: a shift changes places too.
_OBVIOUS = 0.15
#: Frames that were aligned with a brightness so far off are aligned again, so often at most.
_MISJUDGED, _TRIALS = 0.01, 2


@dataclass(frozen=True, kw_only=True)
class LineUp:
    """The frames that are used, the reference first.

    Attributes:
        used: their numbers.
        frames: they, brought to the reference's brightness.
        shifts: where their tiles lie (`block_matching.Aligner.align`).
        agreement: of each with the reference, 0 to 1.
        exposure: brightness of each over the reference's, before it was brought there.
        rejected: share of each one's tiles that show something else than the reference's.
        dropped: number of each other frame -> why it is not used.
    """

    used: list[int]
    frames: list[Frame]
    shifts: list[Tensor]
    agreement: list[float]
    exposure: list[float]
    rejected: list[float]
    dropped: dict[int, str]

    def best(self, most: int) -> LineUp:
        """Leave out frames that blur what others show, where there are more than are needed.

        Args:
            most: frames that a network takes. So many are kept, those that agree best with the
                reference, and of the others those that differ from it by hardly more than noise.
        """
        if most < 2 or len(self.used) <= most:
            return self
        ranked = sorted(range(1, len(self.used)), key=lambda place: -self.agreement[place])
        kept = [0, *sorted(ranked[: most - 1])]
        kept += sorted(p for p in ranked[most - 1 :] if self.agreement[p] >= _AGREES)
        rest = set(range(len(self.used))) - set(kept)
        worse = dict.fromkeys(
            (self.used[p] for p in rest), f"{most - 1} others agree better with the reference"
        )
        return LineUp(
            used=[self.used[p] for p in kept],
            frames=[self.frames[p] for p in kept],
            shifts=[self.shifts[p] for p in kept],
            agreement=[self.agreement[p] for p in kept],
            exposure=[self.exposure[p] for p in kept],
            rejected=[self.rejected[p] for p in kept],
            dropped=self.dropped | worse,
        )


@dataclass(frozen=True)
class _Comparison:
    """A frame beside the reference, over squares all over the picture.

    Attributes:
        agreement: mean robust weight.
        exposure: median ratio of the blocks' brightness.
        error: standard error of that.
        elsewhere: share of blocks that differ by far more than noise; 1 if they have
            nothing to do with the reference's.
        sharpness: edges for one of the reference's.
        rejected: share of tiles that don't agree.
    """

    agreement: float = 1.0
    exposure: float = 1.0
    error: float = 0.0
    elsewhere: float = 0.0
    sharpness: float = 1.0
    rejected: float = 0.0

    @property
    def certain_exposure(self) -> float:
        """The ratio, if it is certain that it is not 1."""
        off = abs(self.exposure - 1)
        return self.exposure if off > max(_LEAST_FLICKER, _CERTAIN * self.error) else 1.0


def align_frames(
    frames: Sequence[Frame], noise: NoiseModel, on_frame: Callable[[], None] = lambda: None
) -> list[Tensor]:
    """Return the tile shifts of each frame against the first, whose own are zero."""
    aligner = Aligner(_stabilised(frames[0], noise))
    shifts = []
    for frame in frames[1:]:
        shifts.append(aligner.align(_stabilised(frame, noise)))
        on_frame()
    return [_still(frames[0]), *shifts]


def _stabilised(frame: Frame, noise: NoiseModel) -> Tensor:
    """Return a frame as `stabilise` does, without holding it all in floating point."""
    bands = frame.samples.split(_BAND, 1)
    return torch.cat([stabilise(frame.linear(band), noise) for band in bands])


def line_up(
    frames: Sequence[Frame], noise: NoiseModel, on_frame: Callable[[], None] = lambda: None
) -> LineUp:
    """Align frames to the first, match their brightness, drop those of something else.

    Args:
        frames: of equal size, the reference first.
        noise: of the reference.
        on_frame: called after each other frame.
    """
    still = _still(frames[0])
    exposure = [c.certain_exposure for c in _compare(frames, [still] * len(frames), noise)]
    exposure = [value if abs(value - 1) > _OBVIOUS else 1.0 for value in exposure]
    dropped = {
        n: f"{value:.2g} times as bright as the reference"
        for n, value in enumerate(exposure)
        if not 1 / _MOST_EXPOSURE <= value <= _MOST_EXPOSURE
    }
    used = [n for n in range(len(frames)) if n not in dropped]
    exposure = [exposure[n] for n in used]
    matched = [_matched(frames[n], value) for n, value in zip(used, exposure, strict=True)]
    shifts = align_frames(matched, noise, on_frame)
    for trial in range(_TRIALS + 1):
        # Now that places lie over each other, their brightness is better known.
        found = _compare(matched, shifts, noise)
        better = [comparison.certain_exposure for comparison in found]
        if all(factor == 1 for factor in better):
            break
        exposure = [value * factor for value, factor in zip(exposure, better, strict=True)]
        exposure = [1.0 if abs(value - 1) <= _LEAST_FLICKER else value for value in exposure]
        matched = [_matched(frames[n], value) for n, value in zip(used, exposure, strict=True)]
        again = [p for p, factor in enumerate(better) if abs(factor - 1) > _MISJUDGED]
        if not again or trial == _TRIALS:
            break
        realigned = align_frames([matched[0], *(matched[p] for p in again)], noise)[1:]
        for place, shift in zip(again, realigned, strict=True):
            shifts[place] = shift
    if any(factor != 1 for factor in better):
        found = _compare(matched, shifts, noise)
    kept = []
    for place, (n, comparison) in enumerate(zip(used, found, strict=True)):
        if comparison.elsewhere > _ELSEWHERE:
            dropped[n] = "shows something else, or moved too far"
        elif comparison.sharpness < _BLURRED:
            dropped[n] = "heavily blurred"
        else:
            kept.append(place)
    return LineUp(
        used=[used[place] for place in kept],
        frames=[matched[place] for place in kept],
        shifts=[shifts[place] for place in kept],
        agreement=[found[place].agreement for place in kept],
        exposure=[exposure[place] for place in kept],
        rejected=[found[place].rejected for place in kept],
        dropped=dropped,
    )


def _still(frame: Frame) -> Tensor:
    """No shift of any tile."""
    rows, columns = (-(-side // TILE) for side in frame.size)
    return torch.zeros(rows, columns, 2, dtype=torch.int64, device=frame.samples.device)


def _matched(frame: Frame, exposure: float) -> Frame:
    return frame if exposure == 1 else replace(frame, gain=frame.gain / exposure)


def _compare(
    frames: Sequence[Frame], shifts: Sequence[Tensor], noise: NoiseModel
) -> list[_Comparison]:
    """Compare each frame with the first, on `squares`."""
    shot, read = noise_coefficients(noise, frames[0].samples.device)
    agreement, rejected, sums, deviations, edges = [], [], [], [], []
    for rows, columns in squares(*frames[0].size):
        part = aligned_part(frames, shifts, rows, columns)
        sigma = sigma_map(part[:1], shot, read)
        differences = (part[1:] - part[:1]) / (2**0.5 * sigma)
        weights = robust_weights(differences[None])[0]
        agreement.append(weights.mean((1, 2)).cpu())
        tiles = F.avg_pool2d(weights[:, None], min(TILE, *weights.shape[-2:]))
        rejected.append((tiles < _REJECTED).float().flatten(1).cpu())
        edges.append(contrasts(part, sigma[0].square()))
        sums.append(_blocks(part).cpu().double())  # in this order: MPS has no float64
        deviations.append(_blocks(sigma.square()).sqrt().cpu().double())
    means = torch.stack(agreement).mean(0).tolist()
    brightness, sigmas = torch.cat(sums, 1), torch.cat(deviations, 1)[0]
    shares = torch.cat(rejected, 1).mean(1).tolist()
    sharp = sharpness(edges)[1:]
    found = [
        replace(_judge(mean, theirs, brightness[0], sigmas), sharpness=edge, rejected=share)
        for mean, theirs, edge, share in zip(means, brightness[1:], sharp, shares, strict=True)
    ]
    return [_Comparison(), *found]


def _judge(agreement: float, frame: Tensor, reference: Tensor, sigma: Tensor) -> _Comparison:
    """Compare the blocks' brightness, `(blocks,)` each; sigma is the reference's alone."""
    seen = reference > 3 * sigma
    if int(seen.sum()) < 8:
        return _Comparison(agreement)
    ratios = frame[seen] / reference[seen]
    middle = ratios.median()
    spread = 1.48 * (ratios - middle).abs().median()  # of normal numbers: their sigma
    error = 1.25 * spread / len(ratios) ** 0.5
    off = (frame - reference).abs()
    far_off = not 1 / _MOST_EXPOSURE <= middle <= _MOST_EXPOSURE
    if not far_off and (frame / middle - reference).abs().median() > _BETTER * off.median():
        middle = torch.ones(())  # it is not brightness that they differ by
    differs = (off > _SIGMAS * 2**0.5 * sigma) & (off > _RELATIVE * reference.abs())
    elsewhere = float(differs.double().mean())
    chance = (frame - reference.roll(len(reference) // 3 + 1)).abs().median()
    if chance > 5 * 2**0.5 * sigma.median():  # else there is nothing to be seen but noise
        elsewhere = elsewhere if off.median() < _BY_CHANCE * chance else 1.0
    return _Comparison(agreement, float(middle), float(error), elsewhere)


def _blocks(planes: Tensor) -> Tensor:
    """Sums over blocks and planes: `(frames, 4, height, width)` -> `(frames, blocks)`."""
    side = min(_BLOCK, *planes.shape[-2:])
    rows, columns = (length // side for length in planes.shape[-2:])
    whole = planes[..., : rows * side, : columns * side]
    return (
        whole.unflatten(-1, (columns, side)).unflatten(-3, (rows, side)).sum((1, 3, 5)).flatten(1)
    )


def squares(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of up to 16 squares all over a picture of so many cells."""
    for top in _places(height):
        for left in _places(width):
            yield (
                slice(top, min(top + _SQUARE, height)),
                slice(left, min(left + _SQUARE, width)),
            )


def _places(length: int) -> list[int]:
    """Starts of up to 4 evenly spread stretches of a square's side."""
    number = min(4, max(1, length // _SQUARE))
    if length <= _SQUARE:
        return [0]
    return [round((length - _SQUARE) * i / max(number - 1, 1)) for i in range(number)]
