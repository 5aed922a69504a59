"""What the network does with a burst: its kernels at a place, and maps of all the picture.

Frames, reference, noise, network and tiles are those of `pipeline.denoise`, so what is shown
is what denoising does. All arrays are turned upright, kernels too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import burst, denoiser, outputs, pipeline, places
from .denoiser import Merger, Part
from .device import memory_as_error
from .errors import KpnError
from .features import sigma_map
from .lineup import LineUp
from .merge import WIDE
from .network import KPN
from .noise import NoiseModel
from .noise_choice import NoiseReport
from .options import Options
from .orientation import upright, upright_place, upright_vectors
from .pipeline import Engine, Loaded, Stage
from .places import Maps, Place
from .raw import RawInfo
from .tiles import Span

#: Side of the crop that is shown around a place, in cells.
CROP = 64
#: Cells beyond the crop that the network sees: from the place itself it then sees as far as
#: it looks (43 cells, to a multiple of 8, and the 5 of `features`), as in the whole picture.
_CONTEXT = 64
#: Long side of maps, in samples, at most.
_MAP = 720


@dataclass(frozen=True)
class Look:
    """The kernels at a place, and its surroundings, under one estimate of the noise.

    Attributes:
        scale: factor of the sigma that the network was told.
        kernels: `(frames, K, K)`, each frame's taps as shares of the result, so that all of
            them sum to 1: a network's kernels over the number of frames. The reference's is
            the sum over the groups that frames are merged in.
        wide: `(K, K)`, taps `merge.WIDE` cells apart, which sum to 1, the mean over the
            groups; None where there is none.
        share: of what the kernels made in the result here; the rest is the reference's.
        radius: root mean square distance of the taps from their cell over the crop, weighted
            with their absolute values, in sensor pixels.
        noise_left: share of the noise variance that is left around the place.
        frames: `(frames, 4, rows, columns)`, linear: the aligned frames around the place.
        clean: `(4, rows, columns)`, the result there.
        middle: row and column of the place in these.
    """

    scale: float
    kernels: np.ndarray
    wide: np.ndarray | None
    share: float
    radius: float
    noise_left: float
    frames: np.ndarray
    clean: np.ndarray
    middle: tuple[int, int]

    @property
    def weights(self) -> np.ndarray:
        """Total weight of each frame, `(frames,)`; they sum to 1."""
        return self.kernels.sum((1, 2))


@dataclass(frozen=True)
class Inspection:
    """What is to be seen of a burst.

    Attributes:
        infos: of the frames that are used, the reference first.
        dropped: files that are not used -> why.
        noise: model and source.
        told: the model that the network was told: `noise` times the strength.
        strength: factor of sigma between the two.
        shifts: of each frame, `(tile rows, tile columns, 2)`, (row, column) in sensor pixels.
        agreement: of each frame with the reference, 0 to 1.
        exposure: brightness of each over the reference's, before it was matched.
        maps: of all the picture.
        looks: at each place, in order: as denoising does it.
        scaled: at each place, the same for each of the noise scales asked for.
        device: where the network ran.
    """

    infos: list[RawInfo]
    dropped: dict[Path, str]
    noise: NoiseReport
    told: NoiseModel
    strength: float
    shifts: list[np.ndarray]
    agreement: list[float]
    exposure: list[float]
    maps: Maps
    looks: dict[Place, Look]
    scaled: dict[Place, list[Look]]
    device: str

    @property
    def median_shifts(self) -> list[tuple[int, int]]:
        """Median shift of each frame, (row, column) in sensor pixels."""
        medians = (np.median(field.reshape(-1, 2), 0) for field in self.shifts)
        return [(int(y), int(x)) for y, x in medians]

    @property
    def info(self) -> RawInfo:
        """The reference's."""
        return self.infos[0]


def inspect(
    paths: Sequence[Path],
    options: Options,
    at: Sequence[tuple[int, int]] = (),
    scales: Sequence[float] = (),
    *,
    read: pipeline.Reader = pipeline.read_planes,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Inspection:
    """Line up a burst, run the network on all of it, look closely at some places.

    Args:
        paths: raw files of one burst, in any order, and folders of such files.
        options: as for `pipeline.denoise`; nothing is written.
        at: places, (x, y) in pixels of the upright picture from its top left; none to have
            telling ones picked (`places.telling`).
        scales: factors of the noise sigma to look at the same places with.
        read: reads a file.
        on_stage: told about progress.

    Raises:
        KpnError: if there are no kernels to be shown, a place is outside of the picture, or
            the burst can't be denoised.
    """
    if options.strength == 0:
        raise KpnError("--strength 0 keeps the reference and uses no kernels; give more")
    engine = Engine(options)
    if engine.network.config.output != "kernels":
        raise KpnError(
            f"{options.weights}: a network that writes pixels has no kernels to show; choose one "
            "that writes kernels"
        )
    with memory_as_error():
        loaded = pipeline.load(
            burst.find_raws(paths),
            options,
            outputs.options_digest(options),
            read=read,
            on_stage=on_stage,
        )
        if not isinstance(loaded, Loaded):
            raise KpnError(f"{options.output}: is there already; choose another folder with -o")
        chosen = [places.given(loaded.infos[0], x, y) for x, y in at]
        found, noise = pipeline.line_up(loaded, options, engine.device, on_stage)
        return _inspected(loaded, options, engine, found, noise, chosen, scales, on_stage)


def _inspected(
    loaded: Loaded,
    options: Options,
    engine: Engine,
    found: LineUp,
    noise: NoiseReport,
    chosen: list[Place],
    scales: Sequence[float],
    on_stage: Callable[[Stage], None],
) -> Inspection:
    turn = loaded.infos[0].orientation

    def merger(scale: float = 1.0) -> Merger:
        return Merger(
            engine.network,
            found.frames,
            found.shifts,
            noise.model,
            strength=options.strength * scale,
            dtype=engine.dtype,
        )

    def work(tile: int) -> Maps:
        return _maps(engine.network, merger(), found.frames[0].size, turn, tile, on_stage)

    maps = pipeline.in_tiles_that_fit(work, engine, len(found.frames), options.tile)
    chosen = chosen or places.telling(loaded.infos[0], maps)
    at = list(dict.fromkeys(chosen))
    looks, scaled = {}, {}
    for number, place in enumerate(at):
        on_stage(Stage("looking", number, len(at)))
        cell, size = place.cell, found.frames[0].size
        looks[place] = _look(engine.network, merger(), size, cell, turn)
        scaled[place] = [
            _look(engine.network, merger(scale), size, cell, turn, scale) for scale in scales
        ]
    strangers = {loaded.files[n]: why for n, why in found.dropped.items()}
    return Inspection(
        [loaded.infos[n] for n in found.used],
        loaded.dropped | strangers,
        noise,
        noise.model.with_strength(options.strength),
        options.strength,
        [upright_vectors(2 * shift.cpu().numpy(), turn) for shift in found.shifts],
        found.agreement,
        found.exposure,
        maps,
        looks,
        scaled,
        str(engine.device),
    )


# --- kernels ----------------------------------------------------------------


def _shares(kernels: Sequence[Tensor], groups: Sequence[list[int]]) -> Tensor:
    """Kernels, or their sums, of all groups as shares of the result: `(frames, ...)`.

    Args:
        kernels: of each group, `(members or members + 1, ...)`.
        groups: the frames' numbers.
    """
    count = 1 + max(number for members in groups for number in members)
    shares = kernels[0].new_zeros(count, *kernels[0].shape[1:])
    for some, members in zip(kernels, groups, strict=True):
        shares[members] += some[: len(members)] / (len(members) * len(groups))
    return shares


def _wide(kernels: Sequence[Tensor], groups: Sequence[list[int]]) -> Tensor | None:
    """Mean of the groups' wide kernels, `(K*K, rows, columns)`."""
    found = [
        some[len(members)]
        for some, members in zip(kernels, groups, strict=True)
        if len(some) > len(members)
    ]
    return torch.stack(found).mean(0) if found else None


def _square_radius(kernels: Tensor) -> Tensor:
    """Mean square distance of taps `(K*K, rows, columns)` from the middle one, in taps."""
    side = round(len(kernels) ** 0.5)
    steps = torch.arange(side, device=kernels.device) - side // 2
    squares = (steps[:, None] ** 2 + steps**2).flatten()[:, None, None]
    weights = kernels.abs()
    return (squares * weights).sum(0) / weights.sum(0).clamp_min(1e-9)


def _look(
    network: KPN,
    merger: Merger,
    size: tuple[int, int],
    cell: tuple[int, int],
    turn: int,
    scale: float = 1.0,
) -> Look:
    """Run the network around a cell."""
    crop = [around(at, CROP, length) for at, length in zip(cell, size, strict=True)]
    grid = network.config.stride
    seen = [
        slice(max(part.start - _CONTEXT, 0) // grid * grid, min(part.stop + _CONTEXT, length))
        for part, length in zip(crop, size, strict=True)
    ]
    part = merger.part(*seen)
    _check_finite(part.clean)
    inside = tuple(
        slice(shown.start - whole.start, shown.stop - whole.start)
        for shown, whole in zip(crop, seen, strict=True)
    )
    kernels = [some[(0, slice(None), slice(None), *inside)] for some in part.kernels]
    shares, wide = _shares(kernels, merger.groups), _wide(kernels, merger.groups)
    square = _square_radius(shares.abs().sum(0))
    if wide is not None:
        square = square + WIDE**2 * _square_radius(wide)
    y, x = (at - shown.start for at, shown in zip(cell, crop, strict=True))
    square_kernel = (network.config.kernel,) * 2
    middle = upright_place(y, x, shares.shape[-2:], turn)
    return Look(
        scale,
        _upright(shares[..., y, x].unflatten(1, square_kernel), turn),
        None if wide is None else _upright(wide[..., y, x].unflatten(0, square_kernel), turn),
        float(part.share[(0, 0, *inside)][y, x]),
        2 * float(square.sqrt().mean()),
        merger.noise_left(part),
        _upright(part.burst[(0, slice(None), slice(None), *inside)], turn),
        _upright(part.clean[(0, slice(None), *inside)], turn),
        middle[::-1],
    )


def _upright(layers: Tensor, turn: int) -> np.ndarray:
    """Turn `(..., rows, columns)` upright."""
    last = np.moveaxis(layers.cpu().numpy(), (-2, -1), (0, 1))
    return np.ascontiguousarray(np.moveaxis(upright(last, turn), (0, 1), (-2, -1)))


def around(at: int, side: int, length: int) -> slice:
    """Return a stretch around a place, moved inwards where it would leave the picture."""
    start = min(max(at - side // 2, 0), max(length - side, 0))
    return slice(start, min(start + side, length))


def _check_finite(clean: Tensor) -> None:
    if not torch.isfinite(clean).all():
        raise KpnError("the result holds values that are not numbers; check --noise and --weights")


# --- maps -------------------------------------------------------------------


def _maps(
    network: KPN,
    merger: Merger,
    size: tuple[int, int],
    turn: int,
    tile: int,
    on_stage: Callable[[Stage], None],
) -> Maps:
    """Run the network on all tiles; keep no more of each than the maps need."""
    factor = -(-max(size) // _MAP)
    small = tuple(-(-side // factor) for side in size)
    total = denoiser.tile_count(network, *size, tile)
    sums: np.ndarray | None = None
    left, cells = [], []
    for number, (rows, columns) in enumerate(denoiser.tile_spans(network, *size, tile)):
        on_stage(Stage("running the network", number, total))
        part = merger.part(rows.slice, columns.slice)
        _check_finite(part.clean)
        layers = _layers(merger, part)
        if sums is None:
            sums = np.zeros((len(layers), *small))
        (top, above), (first, beside) = (_pooling(span, factor) for span in (rows, columns))
        pooled = above @ layers @ beside.T
        sums[:, top : top + len(above), first : first + len(beside)] += pooled
        left.append(merger.noise_left(part))
        cells.append(part.share.numel())
    counts = [np.bincount(np.arange(side) // factor) for side in size]
    means = torch.from_numpy((sums / (counts[0][:, None] * counts[1])).astype(np.float32))
    means = _upright(means, turn)
    frames = len(means) - 10
    return Maps(
        factor,
        weights=means[:frames],
        share=means[frames],
        sigma=np.sqrt(means[frames + 1]),
        clean=means[frames + 2 : frames + 6],
        reference=means[frames + 6 :],
        noise_left=float(np.average(left, weights=cells)),
    )


def _layers(merger: Merger, part: Part) -> np.ndarray:
    """Return weights, share, noise variance, clean and reference, `(frames + 10, ...)`."""
    weights = _shares([some[0].sum(1) for some in part.kernels], merger.groups)
    reference = part.burst[:, 0]
    variance = sigma_map(reference, *merger.told).square().mean(1)
    layers = (weights, part.share[0], variance, part.clean[0], reference[0])
    return torch.cat(layers).cpu().numpy()


def _pooling(span: Span, factor: int) -> tuple[int, np.ndarray]:
    """Return the first sample of a map that a span touches, and the sums into it as a matrix.

    Returns:
        The sample, and `(samples, cells)`.
    """
    samples = np.arange(span.start, span.stop) // factor
    matrix = np.zeros((samples[-1] - samples[0] + 1, len(samples)), np.float32)
    matrix[samples - samples[0], np.arange(len(samples))] = span.weight
    return int(samples[0]), matrix
