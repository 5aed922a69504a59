"""What the network does with a burst: its kernels at a place, and maps of all the picture.

Frames, reference, noise, network and tiles are those of `denoise.denoise`, so what is shown
is what denoising does. All arrays are turned upright, kernels too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..align.alignment import AlignedBurst
from ..burst import files
from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..image.orientation import upright_vectors
from ..merge.tile import TileMerger
from ..noise.selection import NoiseReport, given_noise
from ..pipeline import denoise, fingerprint, loading
from ..pipeline.denoise import Engine
from ..pipeline.loading import Loaded, Reader
from ..pipeline.options import Options
from ..pipeline.result import Stage
from ..raw.info import RawInfo
from ..system.memory import memory_as_error
from . import places
from .kernels import Look, look_at
from .places import Place
from .weight_maps import Maps, draw_maps


@dataclass(frozen=True, kw_only=True)
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
        # The lower of two, as pipeline.median_shift has it: tiles are shifted by whole cells.
        fields = (np.sort(field.reshape(-1, 2), 0) for field in self.shifts)
        return [tuple(values[(len(values) - 1) // 2].tolist()) for values in fields]

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
    read: Reader = loading.read_packed,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Inspection:
    """Line up a burst, run the network on all of it, look closely at some places.

    Args:
        paths: raw files of one burst, in any order, and folders of such files.
        options: as for `denoise.denoise`; nothing is written.
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
        loaded = loading.load_burst(
            files.find_raws(paths),
            options,
            fingerprint.options_digest(options),
            read=read,
            on_stage=on_stage,
        )
        if not isinstance(loaded, Loaded):
            raise KpnError(f"{options.output}: is there already; choose another folder with -o")
        chosen = [places.given(loaded.infos[0], x, y) for x, y in at]
        known = given_noise(loaded.infos[0], options.noise)
        found, noise = denoise.align_and_measure(loaded, known, engine.device, on_stage)
        found = found.keep_best(engine.network.config.frames)
        return _inspected(
            loaded, options, engine, found, noise, chosen=chosen, scales=scales, on_stage=on_stage
        )


def _inspected(
    loaded: Loaded,
    options: Options,
    engine: Engine,
    found: AlignedBurst,
    noise: NoiseReport,
    *,
    chosen: list[Place],
    scales: Sequence[float],
    on_stage: Callable[[Stage], None],
) -> Inspection:
    turn = loaded.infos[0].orientation

    def merger(scale: float = 1.0) -> TileMerger:
        return TileMerger(
            engine.network,
            found.frames,
            found.shifts,
            noise.model.with_strength(scale),
            strength=options.strength,
            dtype=engine.dtype,
        )

    def on_tile(done: int, total: int) -> None:
        on_stage(Stage("running the network", done, total))

    def work(tile: int) -> Maps:
        return draw_maps(engine.network, merger(), found.frames[0].size, turn, tile, on_tile)

    maps = denoise.retry_with_smaller_tiles(work, engine, len(found.frames), options.tile)
    chosen = chosen or places.telling(loaded.infos[0], maps)
    at = list(dict.fromkeys(chosen))
    looks, scaled = {}, {}
    for number, place in enumerate(at):
        on_stage(Stage("looking", number, len(at)))
        cell, size = place.cell, found.frames[0].size
        looks[place] = look_at(engine.network, merger(), size, cell, turn)
        scaled[place] = [
            look_at(engine.network, merger(scale), size, cell, turn, scale) for scale in scales
        ]
    strangers = {loaded.files[n]: why for n, why in found.dropped.items()}
    return Inspection(
        infos=[loaded.infos[n] for n in found.used],
        dropped=loaded.dropped | strangers,
        noise=noise,
        told=noise.model.with_strength(options.strength),
        strength=options.strength,
        shifts=[upright_vectors(2 * shift.cpu().numpy(), turn) for shift in found.shifts],
        agreement=found.robustness,
        exposure=found.exposure,
        maps=maps,
        looks=looks,
        scaled=scaled,
        device=str(engine.device),
    )
