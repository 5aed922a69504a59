"""Worker processes draw the same training batches as the process that trains."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from failing_sources import Broken, Killed

from kpn_cli.errors import KpnError
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.mapped_scenes import MappedScenes
from kpn_cli.synthesis.patches import PhotoSource
from kpn_cli.synthesis.photos import Scene
from kpn_cli.training.batches import draw_batches, draw_in_processes
from kpn_cli.training.config import TrainConfig

CONFIG = TrainConfig(batch=3, workers=1, data=SynthConfig(cells=8, frames=3))
STEPS, MEMBERS = range(2, 7), range(1, 3)


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    return [Scene(str(n), rng.integers(0, 65535, (3, 90, 80 + n), np.uint16)) for n in range(3)]


def test_processes_draw_the_batches_that_threads_draw(scenes, tmp_path):
    source = PhotoSource(scenes)
    alone = draw_batches(source, CONFIG, STEPS, MEMBERS, torch.device("cpu"), tmp_path)
    together = draw_in_processes(source, CONFIG, STEPS, MEMBERS, 2, tmp_path)
    for one, other in zip(alone, together, strict=True):
        [shared] = tmp_path.iterdir()  # not the system's folder, which may be small
        assert shared.stat().st_size == sum(scene.channels.nbytes for scene in scenes)
        for name in vars(one):
            first, second = getattr(one, name), getattr(other, name)
            assert (first is second is None) or torch.equal(first, second)
    assert not list(tmp_path.iterdir())


def test_training_that_ends_while_workers_draw_ahead_says_nothing(tmp_path, capfd):
    rng = np.random.default_rng(0)
    source = PhotoSource([Scene("0", rng.integers(0, 65535, (3, 300, 300), np.uint16))])
    batches = draw_in_processes(source, TrainConfig(), range(100), range(64), 2, tmp_path)
    for _ in range(4):
        next(batches)
    batches.close()  # batches that are on their way are of many megabytes
    assert capfd.readouterr() == ("", "")


def test_an_error_of_a_worker_keeps_its_line(tmp_path):
    with pytest.raises(KpnError, match=r"^shard\.tar: damaged$"):
        next(draw_in_processes(Killed("shard.tar: damaged"), CONFIG, STEPS, MEMBERS, 1, tmp_path))


def test_a_bug_in_a_worker_is_not_taken_for_a_lack_of_memory(tmp_path):
    with pytest.raises(RuntimeError, match="sizes do not match"):
        next(draw_in_processes(Broken(), CONFIG, STEPS, MEMBERS, 1, tmp_path))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_worker_is_a_line(tmp_path):
    with pytest.raises(KpnError, match="was killed, perhaps for lack of memory"):
        next(draw_in_processes(Killed(), CONFIG, STEPS, MEMBERS, 1, tmp_path))


def test_mapped_scenes_are_the_scenes(scenes, tmp_path):
    mapped = MappedScenes(scenes, tmp_path / "scenes")
    assert len(mapped) == 3
    for scene, other in zip(scenes, mapped[:], strict=True):
        assert scene.name == other.name
        assert np.array_equal(scene.channels, other.channels)
    assert PhotoSource(mapped).digest == PhotoSource(scenes).digest
