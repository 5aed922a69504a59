"""What a training run is: length, rate, network, data, loss; and the paper's ablations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..choices import SCHEDULES, VARIANTS
from ..errors import KpnError
from ..network.kpn import KPNConfig
from ..synthesis.config import SynthConfig
from .losses import LossConfig

_WARM_UP = 200  # steps over which the rate rises
_LAST_RATE = 0.01  # of the first, where the cosine ends
_ANNEALED_SHARE = 0.05  # of the run, by whose end the per-frame terms are gone
_ANNEALED_TO = 1e-3


def loss_for(
    patches: int,
    batch: int,
    anneal: float | None = None,
    decay: float | None = None,
    balanced: bool = True,
) -> LossConfig:
    """Return the loss for a run of some length.

    Args:
        patches, batch: length of the run and of a step.
        anneal: weight of the per-frame terms at the start; None for the default.
        decay: its factor per step; None for one that ends it after a twentieth of
            the run: at the paper's pace a short run learns to denoise single frames.
        balanced: see `LossConfig`.
    """
    anneal = LossConfig.anneal if anneal is None else anneal
    if decay is None:
        steps = max(_ANNEALED_SHARE * patches / batch, 1)
        decay = (_ANNEALED_TO / max(anneal, 2 * _ANNEALED_TO)) ** (1 / steps)
    return LossConfig(anneal=anneal, decay=decay, balanced=balanced)


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        patches: length of the run. Length, rate, schedule, intervals, device, precision
            and workers may change when a run is resumed; rate and annealing follow the
            new length.
        batch: patches per step, of all processes together.
        rate: Adam's, after a short warm-up.
        schedule: of the rate: it falls along a cosine, or stays.
        cooldown: patches at the end of a constant rate over which it falls to nothing, linearly.
        average: decay per step of the moving average of the weights that is shipped.
        seed: of the data and the initial weights.
        workers: threads that draw data; None for as many as suit the device.
        validate_every, save_every: in patches.
    """

    patches: int = 500_000
    batch: int = 16
    rate: float = 1e-3
    schedule: str = "cosine"
    cooldown: int = 0
    average: float = 0.999
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    workers: int | None = None
    validate_every: int = 10_000
    save_every: int = 5_000
    network: KPNConfig = field(default_factory=KPNConfig)
    data: SynthConfig = field(default_factory=SynthConfig)
    loss: LossConfig | None = None

    def __post_init__(self) -> None:
        for name in ("patches", "batch", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise KpnError(f"training: {name} must be at least 1")
        if self.rate <= 0 or not 0 <= self.average < 1:
            raise KpnError("training: the rate must be above 0 and the average in [0, 1)")
        if self.schedule not in SCHEDULES:
            raise KpnError(f"training: schedule {self.schedule}; choose {' or '.join(SCHEDULES)}")
        if self.cooldown < 0 or (self.cooldown and self.schedule != "constant"):
            raise KpnError("training: a cooldown needs --schedule constant")
        if self.loss is None:
            object.__setattr__(self, "loss", loss_for(self.patches, self.batch))

    @property
    def steps(self) -> int:
        """Length of the run in steps."""
        return math.ceil(self.patches / self.batch)

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        rise = min(1.0, (step + 1) / _WARM_UP)
        if self.schedule == "constant":
            left = (self.steps - step) * self.batch
            return self.rate * rise * min(1.0, left / self.cooldown if self.cooldown else 1.0)
        fall = (1 + math.cos(math.pi * min(step / self.steps, 1))) / 2
        return self.rate * rise * (_LAST_RATE + (1 - _LAST_RATE) * fall)

    #: What must be the same for a run to be resumed.
    FIXED: ClassVar = ("batch", "seed", "average", "network", "data", "loss")


def with_network(config: TrainConfig, network: KPNConfig) -> TrainConfig:
    """Return the run with another network, and the frames it takes in its data."""
    return replace(config, network=network, data=replace(config.data, frames=network.frames))


def with_variant(config: TrainConfig, variant: str) -> TrainConfig:
    """Return the run of one of `choices.VARIANTS`, the same in everything else."""
    if variant not in VARIANTS:
        raise KpnError(f"training: variant {variant}; choose among {', '.join(VARIANTS)}")
    without_annealing = replace(config, loss=replace(config.loss, anneal=0.0))
    if variant == "direct":  # its pixels belong to no single frame
        return with_network(without_annealing, replace(config.network, output="pixels"))
    if variant == "single":
        return with_network(config, replace(config.network, frames=1))
    if variant == "noanneal":
        return without_annealing
    if variant == "blind":
        return with_network(config, replace(config.network, blind=True))
    return config
