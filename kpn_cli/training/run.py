"""The state of a training run and the folder that stores it: checkpoint, weights, log."""

from __future__ import annotations

import copy
import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import KpnError
from ..network.apply_kernels import restore
from ..network.kpn import KPN, KPNConfig, extended
from ..network.weights import (
    config_from_header,
    in_current_fields,
    load_state,
    load_tensors,
    load_weights,
    save_tensors,
    save_weights,
)
from ..synthesis.config import SynthConfig
from ..synthesis.patches import TrainingBatch
from ..system.device import autocast, float_precision, pick_device
from ..system.distributed import ProcessGroup, local_device
from ..system.files import atomic, make_folder, remove_temporaries, write_error
from .config import TrainConfig
from .losses import annealed_loss
from .validation import PsnrTable

#: Setting -> its option on the command line, where the names differ.
_OPTIONS = {
    "scales": "--mix, --no-mix",
    "extra_blocks": "--extra-blocks",
    "frames": "--variant",
    "output": "--variant",
    "blind": "--variant",
    "average": "--ema",
}
#: Chances in `SynthConfig` that did not exist when older runs began: their value for such runs.
_ABSENT_FROM_DATA = {"defects": 0, "bracket": 0, "uneven": 0}
_CHECKPOINT = "checkpoint.safetensors"
#: Gradients are clipped to this norm: one odd patch must not undo a thousand steps.
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Progress:
    """A report of a training run; its fields are a line of `log.jsonl`.

    Attributes:
        patches: number of patches trained on so far.
        loss: mean since the last report.
        speed: patches per second since the last report.
        table: PSNR in dB by set and gain, if a validation was due.
    """

    patches: int
    loss: float
    speed: float
    table: PsnrTable | None = None


class TrainingRun:
    """The state of a training run and its folder.

    The folder holds `checkpoint.safetensors` (everything needed to resume), `last.safetensors` and
    `best.safetensors` (averaged weights, ready for use) and `log.jsonl`.

    Attributes:
        folder: of the run.
        config: settings.
        network, optimiser: in training.
        average: exponential moving average of the network's weights, which is what ships.
        step: number of optimiser steps taken.
        best: highest mean PSNR of a validation so far, in dB.
        init: name and SHA-256 of the weights that the run began with.
        processes: that train together.
        device, precision, dtype: of the computation.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        init: Path | None = None,
        processes: ProcessGroup | None = None,
        data_digest: str = "",
        *,
        max_gradient_norm: float = MAX_GRADIENT_NORM,
    ) -> None:
        """Begin a run, or resume the one in the folder.

        Args:
            folder: of the run; made unless it exists.
            config: settings.
            init: weights to begin with; not read when a run is resumed.
            processes: that train together; by default this one alone.
            data_digest: of the training data (`BatchSource.digest`); a run is resumed on the
                same data only.
            max_gradient_norm: norm that gradients are clipped to.

        Raises:
            KpnError: if the folder holds another run or a damaged one, the weights do not fit,
                or the processes see different runs.
        """
        self.folder, self.config, self.processes = folder, config, processes or ProcessGroup()
        self._data_digest, self._max_gradient_norm = data_digest, max_gradient_norm
        self.init: dict[str, str] | None = None
        self.device = local_device(pick_device(config.device))
        self.precision = float_precision(config.precision, self.device)
        self.dtype = self.precision.dtype
        torch.manual_seed(config.seed)
        if init is None or self.checkpoint.exists():
            network = KPN(config.network)
        else:
            network, _ = load_weights(init)
            self.init = {"name": init.name, "sha256": sha256(init.read_bytes()).hexdigest()}
            network = extended(network, config.network)
            network.ranges = None  # of other weights, soon
            if network.config != config.network:
                raise KpnError(
                    f"{init}: is {network.config}, but this run is {config.network}; "
                    "leave --variant and --no-mix out, or --init"
                )
        network = network.requires_grad_(True).train()
        # torch's stubs lack `memory_format`.
        self.network: KPN = network.to(  # type: ignore[call-overload]
            self.device, memory_format=torch.channels_last
        )
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
            [self.step, data_digest],
            f"{folder}: processes see different runs or data; give folders that all of them share",
        )
        if self.processes.is_first:
            self._cut_log()
        self._parallel_network = self.processes.wrap(self.network, self.device)

    @property
    def checkpoint(self) -> Path:
        """The file from which the run is resumed."""
        return self.folder / _CHECKPOINT

    @property
    def patches(self) -> int:
        """Number of patches trained on."""
        return self.step * self.config.batch

    def recipe(self) -> dict[str, object]:
        """Return how the weights were made, for the header of their file."""
        return {
            "train": asdict(self.config),
            "init": self.init,
            "data": self._data_digest,
            "patches": self.patches,
            "best": self.best,
        }

    def train_step(self, batch: TrainingBatch) -> Tensor:
        """Take one optimiser step; return the loss, a scalar tensor on the device."""
        config, step = self.config, self.step
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate_at(step)
        inputs = batch.to(self.device)
        with autocast(self.device, self.dtype):
            clean, per_frame, _ = restore(
                self._parallel_network, inputs.burst, inputs.shot, inputs.read, inputs.clip
            )
        loss = annealed_loss(clean, per_frame, inputs.target, inputs.white, config.loss, step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._max_gradient_norm)
        self.optimiser.step()
        self.step += 1
        self.update_average()
        # A NaN in the gradient spoils the weights though the loss is finite: let the loss show it.
        return loss.detach() + 0 * norm.detach()

    @torch.no_grad()
    def update_average(self) -> None:
        """Update the moving average of the weights."""
        # Short at first, to forget the random initial weights soon.
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def lowest_loss(self) -> float:
        """Return the lowest loss that the log reports; infinity for a new run."""
        if not self._log.exists():
            return math.inf
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return min((_number_in(line, "loss") for line in lines), default=math.inf)

    def save(self) -> None:
        """Write `last.safetensors` and the checkpoint.

        The checkpoint is the last file that a report writes: a run that is killed before resumes
        from the previous checkpoint and writes the same files again.
        """
        save_weights(self.folder / "last.safetensors", self.average, self.recipe())
        state = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        state |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
        header = {"config": asdict(self.config.network), "recipe": self.recipe()}
        save_tensors(self.checkpoint, state, header)

    def save_best(self, table: PsnrTable) -> bool:
        """Write `best.safetensors` if the mean PSNR is the highest so far; return whether it is."""
        score = float(np.mean([figure for row in table.values() for figure in row.values()]))
        if not score > (-math.inf if self.best is None else self.best):  # false for NaN too
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
                f"{reason}; to continue from its weights, choose another folder and "
                f"--init {self.folder / 'last.safetensors'}"
            ) from None
        recipe = self._checked_recipe(header)
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
            # The fused Adam ignores strides: the moments, contiguous in the file, need the memory
            # layout of their weights (channels_last). All are copied: Windows replaces no file that
            # is mapped into memory, as the next checkpoint does.
            for key, value in moments.items():
                alike = value.shape == weight.shape
                moments[key] = torch.empty_like(weight if alike else value).copy_(value)
        self.step = recipe["patches"] // self.config.batch
        self.best, self.init = recipe["best"], recipe.get("init")

    def _check_moments(self, optimiser: dict[int, dict[str, Tensor]]) -> None:
        for index, weight in enumerate(self.network.parameters()):
            shapes = {key: tuple(value.shape) for key, value in optimiser.get(index, {}).items()}
            shape = tuple(weight.shape)
            if shapes != {"step": (), "exp_avg": shape, "exp_avg_sq": shape}:
                raise KpnError(f"{self.checkpoint}: damaged (optimiser); choose another folder")

    def _checked_recipe(self, header: dict[str, Any]) -> dict[str, Any]:
        """Return the recipe in a checkpoint's header, if it is of this run.

        Raises:
            KpnError: if it is damaged, or of a run with other settings or data.
        """
        config_from_header(self.checkpoint, header)
        recipe = header.get("recipe")
        if not isinstance(recipe, dict) or not {"train", "patches", "best"} <= set(recipe):
            raise KpnError(f"{self.checkpoint}: not a training checkpoint; choose another folder")
        if not (isinstance(recipe["patches"], int) and isinstance(recipe["best"], float | None)):
            raise KpnError(f"{self.checkpoint}: damaged (patches, best); choose another folder")
        before, now = recipe["train"], json.loads(json.dumps(asdict(self.config)))
        try:
            # A checkpoint from before a setting existed lacks it.
            defaults = json.loads(json.dumps(asdict(SynthConfig()))) | _ABSENT_FROM_DATA
            before["data"] = defaults | before["data"]
            before["data"].pop("hot_pixels", None)  # older runs had these in place of defects
            before["network"] = in_current_fields(before["network"])
            for settings in (before, now):
                settings["loss"].pop("decay")  # annealing follows the length
            other = [name for name in TrainConfig.FIXED if before[name] != now[name]]
        except (TypeError, KeyError, AttributeError):
            raise KpnError(f"{self.checkpoint}: damaged; choose another folder") from None
        digest = self._data_digest
        if digest and recipe.get("data", digest) != digest:
            raise KpnError(
                f"{self.folder}: holds a run on other photos; give the same ones to resume it, "
                "or another folder (and --init) to train on others"
            )
        if other:
            differences = [s for name in other for s in _differences(name, before[name], now[name])]
            raise KpnError(
                f"{self.folder}: holds a run with {', '.join(differences)}; "
                "give the same options to resume it, or another folder for a new run"
            )
        return recipe

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to `log.jsonl`.

        Raises:
            KpnError: if the disk refuses it.
        """
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
            KpnError: if there is a log of a run without its checkpoint.
        """
        if not self._log.exists():
            return
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if _number_in(line, "patches") <= self.patches]
        # A single line may come from a run that was killed before its first checkpoint.
        if self.step == 0 and len(lines) > 1:
            raise KpnError(
                f"{self.folder}: holds a run's log and weights, but not its checkpoint; "
                "choose another folder, and --init to continue from its weights"
            )
        if kept != lines:
            with atomic(self._log) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds the checkpoint of a run, which can be resumed."""
    return (folder / _CHECKPOINT).exists()


def network_config_of(folder: Path, init: Path) -> KPNConfig:
    """Return the network's settings of the run in a folder, or else of the weights in `init`.

    Raises:
        KpnError: if the checkpoint, or without one the weights, cannot be read.
    """
    checkpoint = folder / _CHECKPOINT
    path = checkpoint if checkpoint.exists() else init
    return config_from_header(path, load_tensors(path)[1])


def _differences(name: str, before: object, now: object) -> list[str]:
    """Return a phrase for each setting that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return [s for key in keys for s in _differences(key, before.get(key), now.get(key))]
    option = _OPTIONS.get(name, "")
    return [f"{name} {before}, not {now}{option and f' ({option})'}"]


def _number_in(line: str, name: str) -> float:
    """Return a number in a line of the log; infinity if the line is incomplete."""
    with suppress(ValueError, KeyError, TypeError):
        return float(json.loads(line)[name])
    return math.inf
