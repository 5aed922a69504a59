"""Settings of a training run: length, learning rate, network, data, loss; the ablations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..choices import SCHEDULES, VARIANTS
from ..errors import KpnError
from ..network.kpn import KPNConfig
from ..synthesis.config import SynthConfig
from .losses import LossConfig

#: Steps over which the learning rate rises.
_WARM_UP = 200
#: Learning rate at the end of the cosine, over the highest.
_LAST_RATE = 0.01
#: Share of the run after which annealing has ended, and the weight that it ends at.
_ANNEALED_SHARE, _ANNEALED_TO = 0.05, 1e-3
#: Replaced by a loss whose annealing follows the length of the run.
_BY_LENGTH = LossConfig()


def loss_for(
    patches: int,
    batch: int,
    anneal: float | None = None,
    decay: float | None = None,
    balanced: bool = True,
) -> LossConfig:
    """Return the loss for a run of a certain length.

    Args:
        patches, batch: patches of the run, and of a step.
        anneal: weight of the per-frame terms at the start; None for the default.
        decay: factor of that weight per step; None to end the annealing after a twentieth of
            the run. At the paper's pace, a short run would learn to denoise single frames.
        balanced: see `LossConfig`.
    """
    anneal = LossConfig.anneal if anneal is None else anneal
    if decay is None:
        steps = max(_ANNEALED_SHARE * patches / batch, 1)
        decay = (_ANNEALED_TO / max(anneal, 2 * _ANNEALED_TO)) ** (1 / steps)
    return LossConfig(anneal=anneal, decay=decay, balanced=balanced)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    A resumed run must have the same values of `FIXED`. Length, rate, schedule, intervals, device,
    precision and workers may change; rate and annealing follow the new length.

    Attributes:
        patches: length of the run.
        batch: patches per step, over all processes.
        rate: learning rate of Adam at its highest, after the warm-up.
        schedule: of the learning rate, of `choices.SCHEDULES`: falling along a cosine, or
            constant.
        cooldown: patches at the end of a constant schedule over which the rate falls linearly
            to zero.
        average: decay per step of the exponential moving average of the weights, which is what
            ships.
        seed: of the data and the initial weights.
        precision, device: of `choices.FLOAT_PRECISIONS` and `choices.DEVICES`.
        workers: threads that draw data, or processes beside an accelerator; None for as many as
            suit the device.
        validate_every, save_every: intervals in patches.
        network: of the weights.
        data: of the training bursts.
        loss: by default one whose annealing follows the length of the run (`loss_for`).

    Raises:
        KpnError: for values out of range.
    """

    patches: int = 500_000
    batch: int = 16
    rate: float = 6e-4
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
    loss: LossConfig = _BY_LENGTH

    def __post_init__(self) -> None:
        for name in ("patches", "batch", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise KpnError(f"training: {name} must be at least 1")
        if self.rate <= 0 or not 0 <= self.average < 1:
            raise KpnError("training: the rate must be above 0 and the average in [0, 1)")
        if self.schedule not in SCHEDULES:
            raise KpnError(f"training: schedule {self.schedule}; choose {' or '.join(SCHEDULES)}")
        if self.cooldown < 0 or (self.cooldown and self.schedule != "constant"):
            raise KpnError("training: --cooldown needs --schedule constant")
        if self.loss is _BY_LENGTH:
            object.__setattr__(self, "loss", loss_for(self.patches, self.batch))

    @property
    def steps(self) -> int:
        """Length of the run in steps."""
        return math.ceil(self.patches / self.batch)

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm_up = min(1.0, (step + 1) / _WARM_UP)
        if self.schedule == "constant":
            remaining = (self.steps - step) * self.batch
            cooldown = min(1.0, remaining / self.cooldown) if self.cooldown else 1.0
            return self.rate * warm_up * cooldown
        cosine = (1 + math.cos(math.pi * min(step / self.steps, 1))) / 2
        return self.rate * warm_up * (_LAST_RATE + (1 - _LAST_RATE) * cosine)

    #: Fields that must be the same for a run to be resumed.
    FIXED: ClassVar[tuple[str, ...]] = ("batch", "seed", "average", "network", "data", "loss")


def with_network(config: TrainConfig, network: KPNConfig) -> TrainConfig:
    """Return the settings with another network, and its number of frames in the data."""
    return replace(config, network=network, data=replace(config.data, frames=network.frames))


def with_variant(config: TrainConfig, variant: str) -> TrainConfig:
    """Return the settings of an ablation, the same in everything else.

    Args:
        config: of the full network.
        variant: of `choices.VARIANTS`.

    Raises:
        KpnError: for another variant.
    """
    if variant not in VARIANTS:
        raise KpnError(f"training: variant {variant}; choose among {', '.join(VARIANTS)}")
    without_annealing = replace(config, loss=replace(config.loss, anneal=0.0))
    if variant == "direct":  # without kernels there are no per-frame outputs to anneal
        return with_network(without_annealing, replace(config.network, output="pixels"))
    if variant == "single":
        return with_network(config, replace(config.network, frames=1))
    if variant == "noanneal":
        return without_annealing
    if variant == "blind":
        return with_network(config, replace(config.network, blind=True))
    return config
