"""The state of a training run, and the folder that keeps it."""

from __future__ import annotations

import copy
import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import KpnError
from ..network.kpn import KPN, KPNConfig, extended
from ..network.restore import restore
from ..network.weights import (
    MISSING_FIELDS,
    config_from_header,
    load_state,
    load_tensors,
    load_weights,
    save_tensors,
    save_weights,
)
from ..synthesis.config import SynthConfig
from ..synthesis.patches import Batch
from ..system.device import autocast, choose_precision, pick_device
from ..system.distributed import ProcessGroup, local_device
from ..system.files import atomic, make_folder, remove_temporaries, write_error
from .config import TrainConfig
from .losses import annealed_loss
from .validation import Table

#: What settings are called on the command line, where that is something else.
_OPTIONS = {
    "scales": "--mix, --no-mix",
    "frames": "--variant",
    "output": "--variant",
    "blind": "--variant",
}
#: Chances of what bursts of older runs never had.
_NOT_THEN = {"defects": 0, "bracket": 0, "uneven": 0}
_CHECKPOINT = "checkpoint.safetensors"
_CLIP = 1.0  # norm of the gradient: one odd patch must not undo a thousand


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
    table: Table | None = None


class Run:
    """The state of a training run and the folder that keeps it.

    The folder holds `checkpoint.safetensors` (everything needed to go on),
    `last.safetensors` and `best.safetensors` (averaged weights, ready for use)
    and `log.jsonl`.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        init: Path | None = None,
        processes: ProcessGroup | None = None,
        data: str = "",
    ) -> None:
        self.folder, self.config, self.processes = folder, config, processes or ProcessGroup()
        self.data, self.init = data, None
        self.device = local_device(pick_device(config.device))
        self.precision = choose_precision(config.precision, self.device)
        self.dtype = self.precision.dtype
        torch.manual_seed(config.seed)
        if init is None or self.checkpoint.exists():
            network = KPN(config.network)
        else:
            network, _ = load_weights(init)
            self.init = {"name": init.name, "sha256": sha256(init.read_bytes()).hexdigest()}
            network = extended(network, config.network)
            if network.config != config.network:
                raise KpnError(
                    f"{init}: is {network.config}, but this run is {config.network}; "
                    "leave --variant and --no-mix out, or --init"
                )
        network = network.requires_grad_(True).train()
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.rate, fused=True)
        self.step = 0
        self.best: float | None = None
        if self.processes.is_first:
            make_folder(folder)
            remove_temporaries(folder)
        self.processes.barrier()
        if self.checkpoint.exists():
            self._resume()
        self.processes.check_same(
            [self.step, data],
            f"{folder}: processes see different runs or data; give folders that all of them see",
        )
        if self.processes.is_first:
            self._cut_log()
        self.wrapped = self.processes.wrap(self.network, self.device)

    @property
    def checkpoint(self) -> Path:
        """The file from which the run goes on."""
        return self.folder / _CHECKPOINT

    @property
    def patches(self) -> int:
        """Patches seen."""
        return self.step * self.config.batch

    def recipe(self) -> dict[str, object]:
        """How these weights were made; goes into their header."""
        return {
            "train": asdict(self.config),
            "init": self.init,
            "data": self.data,
            "patches": self.patches,
            "best": self.best,
        }

    def train_step(self, batch: Batch) -> Tensor:
        """Take one step; return the loss, a scalar still on the device."""
        config, step = self.config, self.step
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate_at(step)
        here = batch.to(self.device)
        with autocast(self.device, self.dtype):
            clean, per_frame, _ = restore(self.wrapped, here.burst, here.shot, here.read, here.clip)
        loss = annealed_loss(clean, per_frame, here.truth, here.white, config.loss, step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
        self.optimiser.step()
        self.step += 1
        self.update_average()
        # A gradient that is no number spoils the weights, though the loss was fine: it shows.
        return loss.detach() + 0 * norm.detach()

    @torch.no_grad()
    def update_average(self) -> None:
        """Let the averaged weights, which are the ones that ship, follow by a step."""
        # Short at first, so that the random initial weights are soon forgotten.
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def save(self) -> None:
        """Write `last.safetensors` and the checkpoint.

        The checkpoint comes last of all that a report writes: a run that is killed in
        between goes on from the one before, and writes the same once more.
        """
        save_weights(self.folder / "last.safetensors", self.average, self.recipe())
        state = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        state |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
        header = {"config": asdict(self.config.network), "recipe": self.recipe()}
        save_tensors(self.checkpoint, state, header)

    def save_best(self, table: Table) -> bool:
        """Write `best.safetensors` if the mean of the table's figures is the highest so far."""
        score = float(np.mean([figure for row in table.values() for figure in row.values()]))
        if not score > (-math.inf if self.best is None else self.best):  # nor a NaN
            return False
        self.best = score
        recipe = self.recipe() | {"validation": table}
        save_weights(self.folder / "best.safetensors", self.average, recipe)
        return True

    def _resume(self) -> None:
        try:
            state, header = load_tensors(self.checkpoint)
        except KpnError as error:
            reason = str(error).rpartition(";")[0]
            raise KpnError(
                f"{reason}; in another folder, --init {self.folder / 'last.safetensors'} "
                "goes on from its weights"
            ) from None
        self._check_same_run(header)
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        load_state(self.checkpoint, self.network, parts["network"])
        load_state(self.checkpoint, self.average, parts["average"])
        optimiser: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimiser"].items():
            index, _, key = name.partition(".")
            optimiser.setdefault(int(index), {})[key] = value
        self._check_moments(optimiser)
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": optimiser})
        for weight, moments in self.optimiser.state.items():
            # The fused Adam walks through memory whatever the strides: the moments,
            # contiguous in the file, have to lie as their weights do (channels_last).
            for key, value in moments.items():
                if value.shape == weight.shape:
                    moments[key] = torch.empty_like(weight).copy_(value)
        recipe = header["recipe"]
        self.step = recipe["patches"] // self.config.batch
        self.best, self.init = recipe["best"], recipe.get("init")

    def _check_moments(self, optimiser: dict[int, dict[str, Tensor]]) -> None:
        for index, weight in enumerate(self.network.parameters()):
            shapes = {key: tuple(value.shape) for key, value in optimiser.get(index, {}).items()}
            whole = tuple(weight.shape)
            if shapes != {"step": (), "exp_avg": whole, "exp_avg_sq": whole}:
                raise KpnError(f"{self.checkpoint}: damaged (optimiser); choose another folder")

    def _check_same_run(self, header: dict[str, object]) -> None:
        config_from_header(self.checkpoint, header)
        recipe = header.get("recipe")
        if not isinstance(recipe, dict) or not {"train", "patches", "best"} <= set(recipe):
            raise KpnError(f"{self.checkpoint}: not of a training run; choose another folder")
        if not (isinstance(recipe["patches"], int) and isinstance(recipe["best"], float | None)):
            raise KpnError(f"{self.checkpoint}: damaged (patches, best); choose another folder")
        before, now = recipe["train"], json.loads(json.dumps(asdict(self.config)))
        try:
            # Settings that there were not then had what is their default now, or nothing.
            defaults = json.loads(json.dumps(asdict(SynthConfig()))) | _NOT_THEN
            before["data"] = defaults | before["data"]
            before["network"] = MISSING_FIELDS | before["network"]
            for settings in (before, now):
                settings["loss"].pop("decay")  # the annealing's pace follows the length
            other = [name for name in TrainConfig.FIXED if before[name] != now[name]]
        except (TypeError, KeyError, AttributeError):
            raise KpnError(f"{self.checkpoint}: damaged; choose another folder") from None
        if self.data and recipe.get("data", self.data) != self.data:
            raise KpnError(
                f"{self.folder}: holds a run on other photos; give the same ones to resume it, "
                "or another folder (and --init) to go on with others"
            )
        if other:
            said = [line for name in other for line in _differences(name, before[name], now[name])]
            raise KpnError(
                f"{self.folder}: holds a run with {', '.join(said)}; "
                "give the same options to resume it, or another folder for a new run"
            )

    def log(self, line: dict[str, object]) -> None:
        """Add a line to `log.jsonl`."""
        try:
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise write_error(self._log, error) from None

    @property
    def _log(self) -> Path:
        return self.folder / "log.jsonl"

    def _cut_log(self) -> None:
        """Drop the lines that a killed run wrote after its last checkpoint.

        Raises:
            KpnError: if there is a run's log, but its checkpoint has gone.
        """
        if not self._log.exists():
            return
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if _patches_of(line) <= self.patches]
        if self.step == 0 and len(lines) > 1:  # one line alone: killed before the first
            raise KpnError(
                f"{self.folder}: holds a run's log and weights, but not its checkpoint; "
                "choose another folder, and --init to go on from its weights"
            )
        if kept != lines:
            with atomic(self._log) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a run that can be resumed."""
    return (folder / _CHECKPOINT).exists()


def shape_of(folder: Path, init: Path) -> KPNConfig:
    """Return the network's shape of the run in a folder, or of the weights that it begins with.

    Raises:
        KpnError: if the checkpoint, or the weights where there is none, cannot be read.
    """
    checkpoint = folder / _CHECKPOINT
    path = checkpoint if checkpoint.exists() else init
    return config_from_header(path, load_tensors(path)[1])


def _differences(name: str, before: object, now: object) -> list[str]:
    """Say what differs, setting by setting."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return [s for key in keys for s in _differences(key, before.get(key), now.get(key))]
    option = _OPTIONS.get(name, "")
    return [f"{name} {before}, not {now}{option and f' ({option})'}"]


def _patches_of(line: str) -> float:
    """Patches seen when a line of the log was written; infinite where it was cut short."""
    with suppress(ValueError, KeyError, TypeError):
        return float(json.loads(line)["patches"])
    return math.inf
