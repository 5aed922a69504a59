"""`kpn inspect`: run the pipeline of `denoise` on a burst and keep what explains its result.

Frames, reference, noise, network and tiles are those of `denoise.denoise`. All arrays are turned
upright, kernels included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..align.alignment import AlignedBurst
from ..burst import files
from ..burst.frame import Frame
from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..image.orientation import upright_vectors
from ..merge.tile import TileMerger
from ..noise.selection import NoiseReport
from ..pipeline import denoise, fingerprint, loading
from ..pipeline.denoise import Engine, ReadyNetwork
from ..pipeline.loading import Loaded, NotesReader, Reader
from ..pipeline.options import Options
from ..pipeline.prepare import prepare
from ..pipeline.result import Stage, stops_of
from ..raw.full_exif import read_camera_notes
from ..raw.info import RawInfo
from ..system.device import Precision
from ..system.memory import memory_as_error
from . import points
from .kernels import KernelView, view_kernels
from .points import Point
from .weight_maps import LONGEST_SIDE, PictureMaps, compute_maps


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What the figures of a burst are drawn from.

    Attributes:
        infos: of the merged frames, the reference first.
        dropped: file of each frame that was not merged -> reason.
        noise: the reference's noise model and where it comes from.
        assumed_noise: the model that the network assumes: sigma of `noise` times the strength.
        strength: factor of sigma between the two.
        shifts: for each frame `(tile rows, tile columns, 2)` int64, (row, column) in sensor
            pixels.
        robustness: mean robustness of each frame, its agreement with the reference, 0 to 1.
        exposure: brightness of each frame over the reference's, before it was matched.
        settings: exposure of each frame as text; empty if all have the same.
        maps: of the whole picture.
        views: the kernels at each point, under the noise that denoising assumes.
        scaled_views: the same under each of the noise scales that were asked for.
        device: where the network ran.
        precision: its arithmetic, and why it was chosen.
    """

    infos: list[RawInfo]
    dropped: dict[Path, str]
    noise: NoiseReport
    assumed_noise: NoiseModel
    strength: float
    shifts: list[np.ndarray]
    robustness: list[float]
    exposure: list[float]
    settings: list[str]
    maps: PictureMaps
    views: dict[Point, KernelView]
    scaled_views: dict[Point, list[KernelView]]
    device: str
    precision: Precision

    @property
    def median_shifts(self) -> list[tuple[int, int]]:
        """Median shift of each frame, (row, column) in sensor pixels."""
        # The lower of two middle values, as in `denoise.median_shift`: shifts are whole cells.
        shifts = (np.sort(field.reshape(-1, 2), 0) for field in self.shifts)
        medians = (values[(len(values) - 1) // 2] for values in shifts)
        return [(int(row), int(column)) for row, column in medians]

    @property
    def stops(self) -> list[float]:
        """Brightness of each frame over the reference's, in EV, before it was matched."""
        return stops_of(self.exposure)

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
    longest_map_side: int = LONGEST_SIDE,
    read: Reader = loading.read_packed,
    read_notes: NotesReader = read_camera_notes,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Inspection:
    """Align a burst, run the network over the whole picture, keep the kernels at some points.

    Args:
        paths: raw files of one burst, in any order, and folders of such files.
        options: as for `denoise.denoise`; nothing is written.
        at: points, (x, y) in pixels of the upright picture from its top left; empty to pick
            them (`points.points_of_interest`).
        scales: factors of the noise sigma under which the same points are shown.
        longest_map_side: of the maps, in samples, at most.
        read, read_notes: read a file, and its maker's notes.
        on_stage: called as each stage begins or makes progress.

    Raises:
        KpnError: if the network predicts no kernels, a point is outside the picture, or the
            burst cannot be denoised.
    """
    if options.strength == 0:
        raise KpnError("--strength 0 keeps the reference and uses no kernels; give more")
    engine = Engine(options)
    if engine.config.output != "kernels":
        raise KpnError(
            f"{options.weights}: this network predicts pixels and has no kernels to show; choose "
            "one that predicts kernels"
        )
    with memory_as_error():
        loaded = loading.load_burst(
            files.find_raws(paths),
            options,
            fingerprint.options_digest(options),
            read=read,
            read_notes=read_notes,
            on_stage=on_stage,
        )
        if not isinstance(loaded, Loaded):
            raise KpnError(f"{options.output}: already exists; choose another folder with -o")
        chosen = [points.point_at_pixel(loaded.infos[0], x, y) for x, y in at]
        pixels = 4 * math.prod(loaded.planes[0].shape[1:])
        prepared = prepare(loaded, options, engine.device, on_stage)
        return _inspect_aligned(
            loaded,
            options,
            engine.for_picture(pixels),
            prepared.aligned.keep_best(engine.config.frames),
            prepared.noise,
            chosen=chosen,
            scales=scales,
            longest_map_side=longest_map_side,
            on_stage=on_stage,
        )


def _with_noise_scale(frame: Frame, scale: float) -> Frame:
    """Return a frame whose own noise model, if it has one, has `scale` times the sigma."""
    if frame.noise is None:
        return frame
    return replace(frame, noise=frame.noise.with_strength(scale))


def _inspect_aligned(
    loaded: Loaded,
    options: Options,
    engine: ReadyNetwork,
    aligned: AlignedBurst,
    noise: NoiseReport,
    *,
    chosen: list[Point],
    scales: Sequence[float],
    longest_map_side: int,
    on_stage: Callable[[Stage], None],
) -> Inspection:
    turn = loaded.infos[0].orientation
    size = aligned.frames[0].size

    def merger(scale: float = 1.0) -> TileMerger:
        return TileMerger(
            engine.network,
            [_with_noise_scale(frame, scale) for frame in aligned.frames],
            aligned.shifts,
            noise.model.with_strength(scale),
            strength=options.strength,
            dtype=engine.dtype,
            observed=noise.observed if scale == 1 else None,
        )

    def on_tile(done: int, total: int) -> None:
        on_stage(Stage("running the network", done, total))

    def work(tile: int) -> PictureMaps:
        return compute_maps(
            engine.network,
            merger(),
            size,
            turn,
            tile=tile,
            longest_side=longest_map_side,
            on_tile=on_tile,
        )

    maps = denoise.retry_with_smaller_tiles(work, engine, len(aligned.frames), options.tile)
    chosen = chosen or points.points_of_interest(loaded.infos[0], maps)
    chosen = list(dict.fromkeys(chosen))
    views, scaled_views = {}, {}
    for number, point in enumerate(chosen):
        on_stage(Stage("inspecting points", number, len(chosen)))
        views[point] = view_kernels(engine.network, merger(), size, point.cell, turn)
        scaled_views[point] = [
            view_kernels(engine.network, merger(scale), size, point.cell, turn, scale)
            for scale in scales
        ]
    dropped = {loaded.files[n]: why for n, why in aligned.dropped.items()}
    return Inspection(
        infos=[loaded.infos[n] for n in aligned.used],
        dropped=loaded.dropped | dropped,
        noise=noise,
        assumed_noise=noise.model.with_strength(options.strength),
        strength=options.strength,
        shifts=[upright_vectors(2 * shift.cpu().numpy(), turn) for shift in aligned.shifts],
        robustness=aligned.robustness,
        exposure=aligned.exposure,
        settings=loaded.settings(aligned.used),
        maps=maps,
        views=views,
        scaled_views=scaled_views,
        device=str(engine.device),
        precision=engine.precision,
    )
