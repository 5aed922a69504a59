"""Photo -> training burst."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.patches import PhotoSource, draw_batch

CONFIG = SynthConfig(cells=16)


def tensors(batch):
    values = [getattr(batch, field.name) for field in dataclasses.fields(batch)]
    return [value for value in values if value is not None]


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.integers(0, 10**6))
def test_the_same_seed_gives_the_same_bytes(scenes, seed, step):
    one, two = (draw_batch(scenes, (seed, step), range(2), CONFIG) for _ in range(2))
    for a, b in zip(tensors(one), tensors(two), strict=True):
        assert torch.equal(a, b)


def test_different_seeds_and_steps_give_different_bursts(scenes):
    config = dataclasses.replace(CONFIG, full=1)
    bursts = [draw_batch(scenes, seed, range(1), config).burst for seed in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(bursts[0], bursts[1])
    assert not torch.equal(bursts[0], bursts[2])
    assert not torch.equal(bursts[1], bursts[2])


def test_the_global_random_generators_have_no_influence(scenes):
    np.random.seed(1)
    torch.manual_seed(1)
    one = draw_batch(scenes, (3, 4), range(1), CONFIG)
    np.random.seed(2)
    torch.manual_seed(2)
    assert torch.equal(one.burst, draw_batch(scenes, (3, 4), range(1), CONFIG).burst)


@pytest.mark.parametrize("frames", range(1, 9))
def test_a_full_batch_has_the_documented_shapes(scenes, frames):
    config = dataclasses.replace(CONFIG, frames=frames, full=1, bracket=0, uneven=0)
    batch = draw_batch(scenes, (0, frames), range(3), config)
    assert batch.burst.shape == (3, frames, 4, 16, 16)
    assert batch.target.shape == (3, 4, 16, 16)
    assert batch.shot.shape == batch.read.shape == (3, 4)
    assert batch.clip is None
    assert batch.white.shape == (3,)
    for value in tensors(batch):
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all()


def test_batches_that_are_not_full_have_every_smaller_number_of_frames(scenes):
    config = dataclasses.replace(CONFIG, frames=4, full=0)
    counts = {draw_batch(scenes, (0, step), range(1), config).burst.shape[1] for step in range(30)}
    assert counts == {1, 2, 3}


def test_all_tensors_of_a_batch_move_to_a_device(scenes):
    batch = draw_batch(scenes, (0, 0), range(1), CONFIG)
    for a, b in zip(tensors(batch), tensors(batch.to(torch.device("cpu"))), strict=True):
        assert torch.equal(a, b)


def test_shares_drawn_by_several_processes_make_up_the_batch(scenes):
    whole = draw_batch(scenes, (7, 8), range(4), CONFIG)
    shares = [PhotoSource(scenes).draw((7, 8), part, CONFIG) for part in (range(2), range(2, 4))]
    for a, *b in zip(tensors(whole), *map(tensors, shares), strict=True):
        assert torch.equal(a, torch.cat(b))


def test_threads_draw_the_same_batch(scenes):
    with ThreadPoolExecutor(3) as pool:
        drawn = draw_batch(scenes, (7, 8), range(6), CONFIG, pool.map)
    expected = draw_batch(scenes, (7, 8), range(6), CONFIG)
    for a, b in zip(tensors(drawn), tensors(expected), strict=True):
        assert torch.equal(a, b)
