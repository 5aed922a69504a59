"""Training: photos -> bursts -> the annealed loss -> weights; resumable to the bit.

Batch t is a pure function of (seed, t), so that nothing but the step and the
tensors has to be kept to go on where a run was cut.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import protocol, synth
from .device import autocast, keep_freed_memory, pick_device, pick_precision
from .errors import KpnError
from .losses import LossConfig, annealed_loss
from .merge import filter_frames, merge
from .network import KPN, KPNConfig
from .photos import Scene
from .synth import Batch, SynthConfig
from .weights import (
    config_from_header,
    fill,
    load_tensors,
    load_weights,
    save_tensors,
    save_weights,
)
from .write import make_folder, write_error

_WARM_UP = 200  # steps over which the rate rises
_CLIP = 1.0  # norm of the gradient: one odd patch must not undo a thousand
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
        patches: length of the run. Length, rate, intervals, device and precision may
            change when a run is resumed; rate and annealing follow the new length.
        batch: patches per step.
        rate: Adam's, after a short warm-up; falls along a cosine.
        average: decay per step of the moving average of the weights that is shipped.
        seed: of the data and the initial weights.
        validate_every, save_every: in patches.
    """

    patches: int = 500_000
    batch: int = 16
    rate: float = 1e-3
    average: float = 0.999
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
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
        if self.loss is None:
            object.__setattr__(self, "loss", loss_for(self.patches, self.batch))

    @property
    def steps(self) -> int:
        """Length of the run in steps."""
        return math.ceil(self.patches / self.batch)

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        rise = min(1.0, (step + 1) / _WARM_UP)
        fall = (1 + math.cos(math.pi * min(step / self.steps, 1))) / 2
        return self.rate * rise * (_LAST_RATE + (1 - _LAST_RATE) * fall)

    #: What must be the same for a run to be resumed.
    FIXED = ("batch", "seed", "average", "network", "data", "loss")


def with_network(config: TrainConfig, network: KPNConfig) -> TrainConfig:
    """Return the run with another network, and the frames it takes in its data."""
    return replace(config, network=network, data=replace(config.data, frames=network.frames))


@dataclass(frozen=True)
class Progress:
    """What a run reports.

    Attributes:
        patches: seen so far.
        loss: mean since the last report.
        speed: patches a second since the last report.
        table: PSNR in dB by set and gain, after a validation.
    """

    patches: int
    loss: float
    speed: float
    table: dict[str, dict[str, float]] | None = None


# --- validation -------------------------------------------------------------


def validation_bursts(
    scenes: Sequence[Scene], config: SynthConfig
) -> dict[str, dict[int, list[Batch]]]:
    """Return the fixed bursts on which a run is watched: one patch per photo, by set and gain.

    `shifted`: residuals of half a cell, as behind the aligner; `static`: a
    tripod. Noise and exposure are the protocol's.
    """
    plain = {"partly": 0, "rough": 0, "turning": 0, "off_by_one": 0, "failed": 0}
    common = asdict(config) | plain | {"softer": 0, "moving": 0}
    sets = {}
    for name, static in (("shifted", 0.0), ("static", 1.0)):
        geometry = SynthConfig(**common | {"static": static})
        sets[name] = {
            gain: [_validation_burst(scene, n, gain, geometry) for n, scene in enumerate(scenes)]
            for gain in protocol.GAINS
        }
    return sets


def _validation_burst(scene: Scene, number: int, gain: int, config: SynthConfig) -> Batch:
    rng = np.random.default_rng((number, gain))
    planes = synth.draw_planes([scene], np.random.default_rng(number), config.frames, config)
    white = protocol.WHITE_LEVELS[number % len(protocol.WHITE_LEVELS)]
    clean = protocol.expose(planes * 65535, white)
    noise = protocol.noise_of_gain(gain)
    return Batch(
        torch.from_numpy(noise.sample(clean, rng))[None],
        torch.from_numpy(clean[:1]),
        torch.tensor([noise.shot]),
        torch.tensor([noise.read]),
        torch.tensor([white]),
    )


def validate(
    network: KPN,
    sets: dict[str, dict[int, list[Batch]]],
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, dict[str, float]]:
    """Return the mean PSNR in dB by set and gain."""
    network.eval()
    table: dict[str, dict[str, float]] = {}
    for name, gains in sets.items():
        table[name] = {}
        for gain, bursts in gains.items():
            figures = []
            for burst in bursts:
                here = burst.to(device)
                with torch.inference_mode(), autocast(device, dtype):
                    kernels = network(here.burst, here.shot, here.read)
                clean = merge(here.burst, kernels)
                output, truth = clean[0].cpu().numpy(), burst.truth[0].numpy()
                figures.append(protocol.psnr(output, truth, float(burst.white)))
            table[name][str(gain)] = round(float(np.mean(figures)), 3)
    network.train()
    return table


# --- the run ----------------------------------------------------------------


class Run:
    """The state of a training run and the folder that keeps it.

    The folder holds `checkpoint.safetensors` (everything needed to go on),
    `last.safetensors` and `best.safetensors` (averaged weights, ready for use)
    and `log.jsonl`.
    """

    def __init__(self, folder: Path, config: TrainConfig, init: Path | None = None) -> None:
        self.folder, self.config = folder, config
        self.device = pick_device(config.device)
        self.dtype = pick_precision(config.precision, self.device)
        torch.manual_seed(config.seed)
        if init is None:
            network = KPN(config.network)
        else:
            network, _ = load_weights(init)
            if network.config != config.network:
                raise KpnError(f"{init}: is {network.config}, but this run is {config.network}")
        network = network.requires_grad_(True).train()
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.rate, fused=True)
        self.step = 0
        self.best: float | None = None
        make_folder(folder)
        if self.checkpoint.exists():
            self._resume()

    @property
    def checkpoint(self) -> Path:
        """The file from which the run goes on."""
        return self.folder / "checkpoint.safetensors"

    @property
    def patches(self) -> int:
        """Patches seen."""
        return self.step * self.config.batch

    def recipe(self) -> dict[str, object]:
        """How these weights were made; goes into their header."""
        return {"train": asdict(self.config), "patches": self.patches, "best": self.best}

    def train_step(self, batch: Batch) -> Tensor:
        """Take one step; return the loss, a scalar still on the device."""
        config, step = self.config, self.step
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate_at(step)
        here = batch.to(self.device)
        with autocast(self.device, self.dtype):
            kernels = self.network(here.burst, here.shot, here.read)
        per_frame = filter_frames(here.burst, kernels)
        loss = annealed_loss(
            per_frame.mean(1), per_frame, here.truth, here.white, config.loss, step
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
        self.optimiser.step()
        self.step += 1
        self._update_average()
        return loss.detach()

    @torch.no_grad()
    def _update_average(self) -> None:
        # Short at first, so that the random initial weights are soon forgotten.
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def save(self) -> None:
        """Write the checkpoint and `last.safetensors`."""
        state = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        state |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
        header = {"config": asdict(self.config.network), "recipe": self.recipe()}
        save_tensors(self.checkpoint, state, header)
        save_weights(self.folder / "last.safetensors", self.average, self.recipe())

    def save_best(self, table: dict[str, dict[str, float]]) -> bool:
        """Write `best.safetensors` if the mean of the table's figures is the highest so far."""
        score = float(np.mean([figure for row in table.values() for figure in row.values()]))
        if self.best is not None and score <= self.best:
            return False
        self.best = score
        recipe = self.recipe() | {"validation": table}
        save_weights(self.folder / "best.safetensors", self.average, recipe)
        return True

    def _resume(self) -> None:
        state, header = load_tensors(self.checkpoint)
        self._check_same_run(header)
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        fill(self.checkpoint, self.network, parts["network"])
        fill(self.checkpoint, self.average, parts["average"])
        optimiser: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimiser"].items():
            index, _, key = name.partition(".")
            optimiser.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": optimiser})
        for weight, moments in self.optimiser.state.items():
            # The fused Adam walks through memory whatever the strides: the moments,
            # contiguous in the file, have to lie as their weights do (channels_last).
            for key, value in moments.items():
                if value.shape == weight.shape:
                    moments[key] = torch.empty_like(weight).copy_(value)
        self.step = int(header["recipe"]["patches"]) // self.config.batch
        best = header["recipe"]["best"]
        self.best = None if best is None else float(best)

    def _check_same_run(self, header: dict[str, object]) -> None:
        config_from_header(self.checkpoint, header)
        recipe = header.get("recipe")
        if not isinstance(recipe, dict) or not {"train", "patches", "best"} <= set(recipe):
            raise KpnError(f"{self.checkpoint}: not of a training run; choose another folder")
        before = recipe["train"]
        now = json.loads(json.dumps(asdict(self.config)))
        for settings in (before, now):
            settings["loss"].pop("decay")  # the annealing's pace follows the length
        for name in TrainConfig.FIXED:
            if before[name] != now[name]:
                raise KpnError(
                    f"{self.folder}: holds a run with {name} = {before[name]}, not {now[name]}; "
                    "give the same options to resume it, or another folder for a new run"
                )

    def log(self, line: dict[str, object]) -> None:
        """Add a line to `log.jsonl`."""
        path = self.folder / "log.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise write_error(path, error) from None


def train(
    scenes: Sequence[Scene],
    val_scenes: Sequence[Scene],
    folder: Path,
    config: TrainConfig,
    *,
    init: Path | None = None,
    minutes: float | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train until `config.patches` are seen, or `minutes` have passed; resume what is in `folder`.

    Returns:
        The path of the best weights (the last ones, without validation photos).

    Raises:
        KpnError: if the folder holds another run or a damaged checkpoint, or the
            loss is no longer a number.
    """
    keep_freed_memory()
    run = Run(folder, config, init)
    sets = validation_bursts(val_scenes, config.data) if val_scenes else {}
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    losses: list[Tensor] = []
    since = time.monotonic()
    over = False
    while run.step < config.steps and not over:
        seed = (config.seed, run.step)
        losses.append(run.train_step(synth.draw_batch(scenes, seed, config.batch, config.data)))
        over = run.step >= config.steps or time.monotonic() >= deadline
        if not (over or _crossed(run, config.save_every) or _crossed(run, config.validate_every)):
            continue
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise KpnError(f"{folder}: the loss is {loss}; resume with a smaller --lr")
        speed = len(losses) * config.batch / (time.monotonic() - since)
        table = None
        if sets and (over or _crossed(run, config.validate_every)):
            table = validate(run.average, sets, run.device, run.dtype)
            run.save_best(table)
        run.save()
        progress = Progress(run.patches, loss, speed, table)
        run.log(asdict(progress) | {"rate": config.rate_at(run.step)})
        on_progress(progress)
        losses, since = [], time.monotonic()
    best = folder / "best.safetensors"
    return best if best.exists() else folder / "last.safetensors"


def _crossed(run: Run, interval: int) -> bool:
    return run.patches // interval > (run.patches - run.config.batch) // interval
