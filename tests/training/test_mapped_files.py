"""Files that a run replaces are not mapped into memory: Windows would refuse to replace them."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from kpn_cli.synthesis.photos import Scene
from kpn_cli.training import activation_ranges, run
from kpn_cli.training.activation_ranges import add_ranges, bursts_of
from kpn_cli.training.config import TrainConfig, with_network
from kpn_cli.training.run import TrainingRun

MAPS = Path("/proc/self/maps")
pytestmark = pytest.mark.skipif(not MAPS.exists(), reason="the system does not list its mappings")


@pytest.fixture
def mapped(monkeypatch):
    """Which of the files were mapped while they were written."""
    found: list[str] = []

    def watching(function):
        def watched(path, *arguments):
            gc.collect()
            if str(path) in MAPS.read_text(encoding="utf-8"):
                found.append(path.name)
            return function(path, *arguments)

        return watched

    for module in (run, activation_ranges):
        monkeypatch.setattr(module, "save_weights", watching(module.save_weights))
    monkeypatch.setattr(run, "save_tensors", watching(run.save_tensors))
    return found


def test_a_resumed_run_replaces_its_checkpoint(tmp_path, tiny_config, mapped):
    config = with_network(TrainConfig(batch=1, patches=4), tiny_config)
    first = TrainingRun(tmp_path, config)
    for group in first.optimiser.param_groups:  # a step, so that there are moments
        for weight in group["params"]:
            weight.grad = weight.detach().clone()
    first.optimiser.step()
    first.save()
    again = TrainingRun(tmp_path, config)
    assert again.optimiser.state
    again.save()
    assert mapped == []


def test_ranges_are_written_into_the_file_that_they_belong_to(
    tmp_path, weights, scenes: list[Scene], mapped
):
    path = tmp_path / "own.safetensors"
    path.write_bytes(weights.read_bytes())
    big = [Scene("big", scenes[0].resized(300, 300).channels)]
    add_ranges(path, bursts_of(big, TrainConfig().data, 0, 1), {})
    assert mapped == []
