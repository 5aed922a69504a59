"""How fast kpn is here: as fast as the last run, or as a quick measurement says.

The time of a burst is taken to grow with `work`: the network's part is the same for any number of
frames, reading and alignment grow with them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..pipeline.options import Options
from ..system.cache import keep_facts, load_facts
from ..system.threads import usable_cores
from .plan import Job

_NAME = "speed"
#: Settings of which speeds are kept, at most.
_KEPT = 32

#: The network's part of the work, in frames: one frame of 1.6 megapixels took 9.6 s and eight took
#: 15.8 s, on two cores without AMX.
_NETWORK_FRAMES = 10
#: Least work of a run that says something about speed: one frame of a megapixel. Where less is
#: done, most of the time passes with starting.
_LEAST_WORK = 1.0 * (_NETWORK_FRAMES + 1)

#: Seconds for a unit of work that nobody waits for: the file is damaged.
_MOST_SECONDS = 1e6

#: How a speed is known, for the user.
_LAST_RUN, _MEASURED = "by the speed of the last run", "by a quick measurement"

#: Side of the planes of a quick measurement, in cells, and its frames.
_TRIED_CELLS = 256
_TRIED_FRAMES = 8
#: What reading, repair, the noise and writing take on top of what is measured.
_OTHER_STAGES = 1.5


@dataclass(frozen=True)
class Speed:
    """How long work takes.

    Attributes:
        seconds: for a unit of `work`.
        source: how that is known, for the user.
    """

    seconds: float
    source: str


#: Not worth a measurement, which would take as long.
_OF_LITTLE_WORK = Speed(1.0, "not measured: the batch is small")


def work(job: Job) -> float:
    """Return the work of a burst, in frames of a megapixel; 0 if its size is not known."""
    return job.pixels / 1e6 * (_NETWORK_FRAMES + len(job.files))


def speed_for(units: float, options: Options) -> Speed:
    """Return the speed of the last run with such options, or measure it, which takes seconds.

    Args:
        units: of `work` that are to be done.
        options: of the run.

    Raises:
        KpnError: if device or network cannot be used.
    """
    kept = kept_speed(options)
    if kept is None and units <= _LEAST_WORK:
        return _OF_LITTLE_WORK
    if kept is None:
        kept = measure_speed(options)
        _keep(options, kept.seconds, measured=True)
    return kept


def kept_speed(options: Options) -> Speed | None:
    """Return the speed of the last run with such options, or what was measured; None without."""
    fact = load_facts(_NAME).get(_key(options))
    if not isinstance(fact, dict):
        return None
    seconds = fact.get("seconds")
    if not isinstance(seconds, (int, float)) or not 0 < seconds < _MOST_SECONDS:
        return None
    return Speed(float(seconds), _MEASURED if fact.get("measured") else _LAST_RUN)


def keep_speed(options: Options, jobs: Sequence[Job], seconds: float) -> None:
    """Keep the speed of a run for later estimates; of a tiny run nothing.

    Args:
        options: of the run.
        jobs: that were denoised.
        seconds: that they took.
    """
    done = sum(map(work, jobs))
    if done >= _LEAST_WORK and seconds > 0:
        _keep(options, seconds / done, measured=False)


def _keep(options: Options, seconds: float, *, measured: bool) -> None:
    facts = load_facts(_NAME)
    facts.pop(_key(options), None)
    others = dict(list(facts.items())[1 - _KEPT :])
    fact = {"seconds": float(f"{seconds:.4g}"), "measured": measured}
    keep_facts(_NAME, others | {_key(options): fact})


def _key(options: Options) -> str:
    """Return what a speed depends on, as text."""
    network = "no network" if not options.strength else str(options.weights or "bundled")
    return f"{options.device}, {options.precision}, {network}, {usable_cores()} threads"


def measure_speed(options: Options) -> Speed:
    """Measure the speed on a small synthetic burst; takes a few seconds.

    Raises:
        KpnError: if device or network cannot be used.
    """
    import torch

    from ..burst.frame import Frame
    from ..image.noise_model import NoiseModel
    from ..merge import merge
    from ..pipeline.denoise import Engine

    engine = Engine(options)
    ready = engine.for_picture(None)
    generator = torch.Generator().manual_seed(0)
    scene = torch.rand(4, _TRIED_CELLS, _TRIED_CELLS, generator=generator)
    noisy = [
        scene + 0.01 * torch.randn(scene.shape, generator=generator) for _ in range(_TRIED_FRAMES)
    ]
    frames = [Frame(samples.to(engine.device)) for samples in noisy]
    seconds = math.inf
    for _ in range(2):  # the first time, the network is prepared
        start = time.monotonic()
        done, _ = merge.denoise_burst(
            ready.network,
            frames,
            NoiseModel.uniform(0.0, 1e-4),
            strength=options.strength,
            dtype=ready.precision.dtype,
        )
        done.planes.sum()  # waits for a GPU
        seconds = min(seconds, time.monotonic() - start)
    units = 4 * _TRIED_CELLS**2 / 1e6 * (_NETWORK_FRAMES + _TRIED_FRAMES)
    return Speed(_OTHER_STAGES * seconds / units, _MEASURED)
