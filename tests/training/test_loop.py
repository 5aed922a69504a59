"""Training: resumable to the bit, and a run cannot be spoilt by mistake."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import torch
from pictures import photo
from training_runs import CONFIG, log_of, same_tensors, state_of

from kpn_cli.errors import KpnError
from kpn_cli.network.weights import load_tensors, load_weights
from kpn_cli.synthesis import patches
from kpn_cli.synthesis.patches import PhotoSource
from kpn_cli.system.files import lock_folder
from kpn_cli.training import loop
from kpn_cli.training.config import VARIANTS, with_variant
from kpn_cli.training.losses import LossConfig
from kpn_cli.training.run import TrainingRun


class Interrupted(Exception):
    """Stands for Ctrl-C or a power cut."""


def interrupt_at(monkeypatch, steps):
    """Let the training raise once when it draws the batch of each of `steps`."""
    draw, left = patches.draw_batch, set(steps)

    def interrupting(scenes, seed, *rest):
        if seed[1] in left:
            left.remove(seed[1])
            raise Interrupted
        return draw(scenes, seed, *rest)

    monkeypatch.setattr(patches, "draw_batch", interrupting)
    return left


def train_in_pieces(scenes, folder, config):
    """Call `train` until it comes to its end; return how often."""
    for calls in range(1, 20):
        try:
            loop.train(PhotoSource(scenes), scenes, folder, config)
        except Interrupted:
            continue
        return calls
    raise AssertionError("never came to its end")


# --- a step -----------------------------------------------------------------


def test_training_in_bf16_learns_the_same_and_resumes_to_the_bit(
    scenes, whole, tmp_path, monkeypatch
):
    config = dataclasses.replace(CONFIG, precision="bf16")
    loop.train(PhotoSource(scenes), scenes, tmp_path / "one", config)
    interrupt_at(monkeypatch, [5, 9])
    assert train_in_pieces(scenes, tmp_path / "two", config) == 3
    same_tensors(state_of(tmp_path / "two")[0], state_of(tmp_path / "one")[0])
    coarse, fine = (
        [line["loss"] for line in log_of(folder)] for folder in (tmp_path / "one", whole)
    )
    assert coarse == pytest.approx(fine, rel=0.02)
    assert coarse != fine


# --- resuming ---------------------------------------------------------------


@pytest.mark.parametrize("steps", [[4], [5, 7], [0, 9, 11]])
def test_an_interrupted_run_ends_with_the_bits_of_the_uninterrupted(
    scenes, whole, tmp_path, monkeypatch, steps
):
    left = interrupt_at(monkeypatch, steps)
    assert train_in_pieces(scenes, tmp_path, CONFIG) == len(steps) + 1
    assert not left
    (state, header), (expected, expected_header) = state_of(tmp_path), state_of(whole)
    assert header == expected_header
    same_tensors(state, expected)
    assert log_of(tmp_path) == log_of(whole)
    for name in ("best", "last"):
        network, recipe = load_weights(tmp_path / f"{name}.safetensors")
        other, other_recipe = load_weights(whole / f"{name}.safetensors")
        assert recipe == other_recipe
        same_tensors(network.state_dict(), other.state_dict())


def test_a_resumed_run_has_the_optimiser_of_the_interrupted_one(scenes, tmp_path):
    """In memory too: the fused Adam takes moments as they lie, whatever their strides."""
    run = TrainingRun(tmp_path, CONFIG)
    for step in range(3):
        run.train_step(patches.draw_batch(scenes, (0, step), range(4), CONFIG.data))
    run.save()
    resumed = TrainingRun(tmp_path, CONFIG)
    assert resumed.step == 3
    pairs = zip(run.network.parameters(), resumed.network.parameters(), strict=True)
    for before, after in pairs:
        assert torch.equal(before, after)
        assert before.stride() == after.stride()
        moments, again = run.optimiser.state[before], resumed.optimiser.state[after]
        assert set(moments) == set(again)
        for key, value in moments.items():
            assert torch.equal(value, again[key])
            assert value.stride() == again[key].stride()


def test_a_finished_run_is_not_touched_again(scenes, whole):
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    loop.train(PhotoSource(scenes), scenes, whole, CONFIG)
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_a_finished_run_can_be_made_longer(scenes, whole, tmp_path):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    longer = dataclasses.replace(CONFIG, patches=56)
    loop.train(PhotoSource(scenes), scenes, tmp_path, longer)
    assert log_of(tmp_path)[:-1] == log_of(whole)
    assert log_of(tmp_path)[-1]["patches"] == 56


# --- what a run leaves ------------------------------------------------------


def test_the_log_holds_the_reported_progress(scenes, tmp_path):
    reported = []
    best = loop.train(PhotoSource(scenes), scenes, tmp_path, CONFIG, on_progress=reported.append)
    assert best == tmp_path / "best.safetensors"
    assert [progress.patches for progress in reported] == [16, 24, 32, 48]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for progress, line in zip(reported, lines, strict=True):
        assert dataclasses.asdict(progress).items() <= line.items()
        assert math.isfinite(progress.loss)
        assert (progress.table is None) == (progress.patches % 24 != 0)


def test_without_validation_photos_the_last_weights_are_the_result(scenes, tmp_path):
    short = dataclasses.replace(CONFIG, patches=4)
    path = loop.train(PhotoSource(scenes), [], tmp_path, short)
    assert path == tmp_path / "last.safetensors"
    assert load_weights(path)[1]["patches"] == 4
    assert not (tmp_path / "best.safetensors").exists()


# --- learning ---------------------------------------------------------------


def test_the_loss_falls(scenes, tmp_path):
    batch = patches.draw_batch(scenes, (0, 0), range(4), dataclasses.replace(CONFIG.data, full=1))
    config = dataclasses.replace(CONFIG, patches=400, rate=0.1, loss=LossConfig(anneal=0))
    run = TrainingRun(tmp_path, config)
    losses = [float(run.train_step(batch)) for _ in range(40)]
    assert min(losses[-5:]) < losses[0] - 0.1  # of a logarithm: by a tenth and more


def test_the_shipped_average_follows_the_weights(scenes, tmp_path):
    run = TrainingRun(tmp_path, CONFIG)
    start = run.average.head_weight.clone()
    batch = patches.draw_batch(scenes, (0, 0), range(4), dataclasses.replace(CONFIG.data, full=1))
    for _ in range(10):
        run.train_step(batch)
    now = run.network.head_weight.detach()
    assert 0 < float((now - run.average.head_weight).norm()) < float((now - start).norm())
    assert not run.average.head_weight.requires_grad


def test_a_nan_loss_stops_the_run_before_it_is_saved(scenes, whole, tmp_path, monkeypatch):
    draw = patches.draw_batch

    def poisoned(scenes, seed, *rest):
        batch = draw(scenes, seed, *rest)
        if seed[1] == 6:
            batch.burst.fill_(math.nan)
        return batch

    monkeypatch.setattr(patches, "draw_batch", poisoned)
    with pytest.raises(KpnError, match=r"loss is nan.*--lr"):
        loop.train(
            PhotoSource(scenes), [], tmp_path, dataclasses.replace(CONFIG, validate_every=1000)
        )
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["recipe"]["patches"] == 16


@pytest.mark.parametrize("resumed", [False, True])
def test_a_loss_that_rises_for_good_stops_the_run_before_it_is_saved(
    scenes, tmp_path, monkeypatch, resumed
):
    draw, broken = patches.draw_batch, not resumed

    def astray(scenes, seed, *rest):
        batch = draw(scenes, seed, *rest)
        if seed[1] >= 4 and broken:
            batch.burst.add_(3.0)
        return batch

    monkeypatch.setattr(patches, "draw_batch", astray)
    config = dataclasses.replace(CONFIG, patches=32, save_every=16, validate_every=1000)
    if resumed:
        loop.train(PhotoSource(scenes), [], tmp_path, dataclasses.replace(config, patches=16))
        broken = True
    with pytest.raises(KpnError, match=r"the loss rose from -\d.* to .*--lr"):
        loop.train(PhotoSource(scenes), [], tmp_path, config, judged_patches=16)
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["recipe"]["patches"] == 16
    assert len(log_of(tmp_path)) == 1


# --- ablations --------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_ablation_trains_is_saved_and_resumed(scenes, tmp_path, variant):
    config = with_variant(dataclasses.replace(CONFIG, patches=8), variant)
    loop.train(PhotoSource(scenes), scenes, tmp_path, config)
    network, recipe = load_weights(tmp_path / "best.safetensors")
    assert network.config == config.network
    assert recipe["patches"] == 8
    longer = dataclasses.replace(config, patches=12)
    loop.train(PhotoSource(scenes), scenes, tmp_path, longer)
    assert load_weights(tmp_path / "last.safetensors")[1]["patches"] == 12


def test_the_folder_of_one_ablation_is_refused_for_another(scenes, tmp_path):
    short = dataclasses.replace(CONFIG, patches=4)
    loop.train(PhotoSource(scenes), [], tmp_path, short)
    with pytest.raises(KpnError, match="holds a run with blind False, not True"):
        loop.train(PhotoSource(scenes), [], tmp_path, with_variant(short, "blind"))


# --- stopping ---------------------------------------------------------------


def test_a_stopped_run_is_saved_and_resumes_to_the_same_result(scenes, whole, tmp_path):
    seen, begun = [], []
    loop.train(
        PhotoSource(scenes), [], tmp_path, CONFIG,
        should_stop=lambda: len(seen) >= 5, on_step=seen.append, on_start=begun.append,
    )  # fmt: skip
    assert seen == [4, 8, 12, 16, 20]
    assert state_of(tmp_path)[1]["recipe"]["patches"] == 20
    loop.train(PhotoSource(scenes), [], tmp_path, CONFIG, on_start=begun.append)
    assert begun == [0, 20]
    same_tensors(state_of(tmp_path)[0], state_of(whole)[0])


def test_ctrl_c_saves_the_run(scenes, tmp_path):
    """Through the installed program."""
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), photo(number, 280, 300))
    run = tmp_path / "run"
    command = [
        Path(sys.executable).with_name("kpn"), "train", tmp_path, "-o", run,
        "--device", "cpu", "--precision", "fp32", "--batch", "1", "--variant", "single",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while not run.exists() and process.poll() is None:
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()  # a run of its own, half a million patches long
    assert process.returncode == 130
    assert "run the same command again" in said
    assert load_weights(run / "last.safetensors")[1]["patches"] > 0


def test_a_second_run_in_the_same_folder_is_refused(scenes, tmp_path):
    with lock_folder(tmp_path), pytest.raises(KpnError, match="another kpn is at work"):
        loop.train(PhotoSource(scenes), [], tmp_path, CONFIG)
    assert not list(tmp_path.iterdir())


# --- what else a run writes and how it draws --------------------------------


def test_the_number_of_worker_threads_does_not_change_the_result(scenes, whole, tmp_path):
    config = dataclasses.replace(CONFIG, workers=3)
    loop.train(PhotoSource(scenes), scenes, tmp_path, config)
    same_tensors(state_of(tmp_path)[0], state_of(whole)[0])
