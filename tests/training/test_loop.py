"""Training: resumable to the bit, and a run cannot be spoilt by mistake."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import cv2
import pytest
import torch
from pictures import photo

from kpn_cli.errors import KpnError
from kpn_cli.network.kpn import KPN, KPNConfig
from kpn_cli.network.restore import restore
from kpn_cli.network.weights import load_tensors, load_weights, save_tensors, save_weights
from kpn_cli.synthesis import patches, protocol
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.patches import Photos
from kpn_cli.system.files import sole_user
from kpn_cli.training import loop, validation
from kpn_cli.training import run as training_run
from kpn_cli.training.config import VARIANTS, TrainConfig, with_variant
from kpn_cli.training.losses import LossConfig
from kpn_cli.training.run import Run

#: Twelve steps of four patches; saved after 4, 8, 12, validated after 6 and 12.
CONFIG = TrainConfig(
    patches=48,
    batch=4,
    rate=0.02,  # a thousandth of it is left by the warm-up of 200 steps
    precision="fp32",
    device="cpu",
    save_every=16,
    validate_every=24,
    network=KPNConfig(widths=(8, 8), head=8),
    data=SynthConfig(cells=16),
)


class Interrupted(Exception):
    """Stands for Ctrl-C or a power cut."""


def state_of(folder):
    return load_tensors(folder / "checkpoint.safetensors")


def log_of(folder):
    """The lines of the log, but for the speed."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "speed"} for line in lines]


def same_tensors(one, two):
    assert set(one) == set(two)
    for name, value in one.items():
        assert torch.equal(two[name], value), name


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
            loop.train(Photos(scenes), scenes, folder, config)
        except Interrupted:
            continue
        return calls
    raise AssertionError("never came to its end")


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    loop.train(Photos(scenes), scenes, folder, CONFIG)
    return folder


# --- a step -----------------------------------------------------------------


def gradient_norm(scenes, folder, monkeypatch, clip):
    monkeypatch.setattr(training_run, "_CLIP", clip)
    run = Run(folder, CONFIG)
    run.train_step(Photos(scenes).draw((0, 0), range(4), CONFIG.data, map))
    squares = [(weight.grad**2).sum() for weight in run.network.parameters()]
    return float(torch.stack(squares).sum() ** 0.5)


def test_a_gradient_is_clipped_to_a_norm_of_one(scenes, tmp_path, monkeypatch):
    assert training_run._CLIP == 1
    free = gradient_norm(scenes, tmp_path / "free", monkeypatch, 1e9)
    assert free > 2
    assert gradient_norm(scenes, tmp_path / "half", monkeypatch, free / 2) == pytest.approx(
        free / 2, rel=1e-4
    )
    assert gradient_norm(scenes, tmp_path / "one", monkeypatch, 1.0) == pytest.approx(1, rel=1e-4)


def test_training_in_bf16_learns_the_same_and_resumes_to_the_bit(
    scenes, whole, tmp_path, monkeypatch
):
    config = dataclasses.replace(CONFIG, precision="bf16")
    loop.train(Photos(scenes), scenes, tmp_path / "one", config)
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
    run = Run(tmp_path, CONFIG)
    for step in range(3):
        run.train_step(patches.draw_batch(scenes, (0, step), range(4), CONFIG.data))
    run.save()
    resumed = Run(tmp_path, CONFIG)
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
    loop.train(Photos(scenes), scenes, whole, CONFIG)
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_a_finished_run_can_be_made_longer(scenes, whole, tmp_path):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    longer = dataclasses.replace(CONFIG, patches=56)
    loop.train(Photos(scenes), scenes, tmp_path, longer)
    assert log_of(tmp_path)[:-1] == log_of(whole)
    assert log_of(tmp_path)[-1]["patches"] == 56


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"batch": 8}, "batch 4, not 8"),
        ({"network": KPNConfig(widths=(8, 8), head=4)}, "head 8, not 4"),
        ({"data": SynthConfig(cells=16, static=0.5)}, r"static 0\.15, not 0\.5"),
    ],
)
def test_another_run_s_folder_is_refused_and_left_alone(scenes, whole, changes, said):
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    with pytest.raises(KpnError, match=f"holds a run with {said};") as caught:
        loop.train(Photos(scenes), scenes, whole, dataclasses.replace(CONFIG, **changes))
    assert str(whole) in str(caught.value)
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_a_damaged_checkpoint_is_refused_and_not_replaced(scenes, whole, tmp_path):
    damaged = tmp_path / "checkpoint.safetensors"
    damaged.write_bytes((whole / damaged.name).read_bytes()[:-100])
    size = damaged.stat().st_size
    with pytest.raises(KpnError, match=r"checkpoint\.safetensors: damaged"):
        loop.train(Photos(scenes), [], tmp_path, CONFIG)
    assert damaged.stat().st_size == size
    assert [path.name for path in tmp_path.iterdir()] == [damaged.name]


def test_weights_in_the_place_of_the_checkpoint_are_refused(scenes, whole, tmp_path):
    for name in ("last.safetensors", "best.safetensors"):
        (tmp_path / "checkpoint.safetensors").write_bytes((whole / name).read_bytes())
        with pytest.raises(KpnError, match=r"checkpoint\.safetensors"):
            loop.train(Photos(scenes), [], tmp_path, CONFIG)


def test_a_checkpoint_without_its_recipe_is_refused(tmp_path, tiny_network):
    save_weights(tmp_path / "checkpoint.safetensors", tiny_network, {})
    with pytest.raises(KpnError, match=r"checkpoint\.safetensors"):
        Run(tmp_path, CONFIG)


def test_a_checkpoint_is_no_weight_file(whole):
    with pytest.raises(KpnError, match=r"checkpoint; take last\.safetensors"):
        load_weights(whole / "checkpoint.safetensors")


# --- what a run leaves ------------------------------------------------------


def test_a_run_leaves_weights_ready_for_use_and_says_how_they_were_made(whole):
    for name in ("best", "last"):
        network, recipe = load_weights(whole / f"{name}.safetensors")
        assert network.config == CONFIG.network
        assert recipe["train"]["seed"] == 0
        assert recipe["train"]["data"]["cells"] == 16
    assert recipe["patches"] == 48
    assert sorted(path.name for path in whole.iterdir()) == [
        "best.safetensors",
        "checkpoint.safetensors",
        "last.safetensors",
        "log.jsonl",
    ]


def test_the_log_and_the_progress_tell_the_same(scenes, tmp_path):
    told = []
    best = loop.train(Photos(scenes), scenes, tmp_path, CONFIG, on_progress=told.append)
    assert best == tmp_path / "best.safetensors"
    assert [progress.patches for progress in told] == [16, 24, 32, 48]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for progress, line in zip(told, lines, strict=True):
        assert dataclasses.asdict(progress).items() <= line.items()
        assert math.isfinite(progress.loss)
        assert (progress.table is None) == (progress.patches % 24 != 0)


def test_validation_has_a_figure_for_each_set_and_gain(whole):
    table = log_of(whole)[-1]["table"]
    assert set(table) == {"shifted", "static", "bracket"}
    for row in table.values():
        assert list(row) == [str(gain) for gain in protocol.GAINS]
        figures = list(row.values())
        assert all(5 < figure < 80 for figure in figures)
        assert figures == sorted(figures, reverse=True)


def test_the_best_weights_are_those_with_the_highest_mean_figure(whole):
    tables = [line["table"] for line in log_of(whole) if line["table"]]
    means = [sum(f for row in t.values() for f in row.values()) / 15 for t in tables]
    _, recipe = load_weights(whole / "best.safetensors")
    assert recipe["validation"] == tables[means.index(max(means))]
    assert recipe["best"] == pytest.approx(max(means))


def test_a_table_that_is_no_number_is_never_the_best(tmp_path):
    run = Run(tmp_path, CONFIG)
    assert not run.save_best({"shifted": {"0": math.nan}})
    assert run.save_best({"shifted": {"0": 30.0}})
    assert not run.save_best({"shifted": {"0": math.nan}})
    assert not run.save_best({"shifted": {"0": 1.0}})


def test_a_gradient_that_is_no_number_shows_in_the_loss(scenes, tmp_path):
    run = Run(tmp_path, CONFIG)
    run.network.stem.weight.register_hook(lambda gradient: gradient * math.inf)
    batch = patches.draw_batch(scenes, (0, 0), range(2), CONFIG.data)
    assert not torch.isfinite(run.train_step(batch))


def test_a_run_without_its_checkpoint_is_not_begun_again(scenes, whole, tmp_path):
    for path in whole.iterdir():
        if path.name != "checkpoint.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KpnError, match="not its checkpoint"):
        loop.train(Photos(scenes), scenes, tmp_path, CONFIG)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_goes_on_with_its_own_photos_only(scenes, whole):
    with pytest.raises(KpnError, match="on other photos"):
        loop.train(Photos(scenes[:1]), scenes, whole, CONFIG)


def test_the_recipe_names_what_a_run_began_with_and_on_what(scenes, whole, tmp_path):
    init = tmp_path / "first.safetensors"
    init.write_bytes((whole / "last.safetensors").read_bytes())
    short = dataclasses.replace(CONFIG, patches=4)
    loop.train(Photos(scenes), [], tmp_path / "run", short, init=init)
    recipe = load_weights(tmp_path / "run" / "last.safetensors")[1]
    assert recipe["init"]["name"] == "first.safetensors"
    assert recipe["init"]["sha256"] == sha256(init.read_bytes()).hexdigest()
    assert recipe["data"] == Photos(scenes).digest
    init.unlink()  # not needed to go on
    longer = dataclasses.replace(CONFIG, patches=8)
    loop.train(Photos(scenes), [], tmp_path / "run", longer, init=init)
    again = load_weights(tmp_path / "run" / "last.safetensors")[1]
    assert again["init"] == recipe["init"]


def test_the_best_weights_are_the_initial_ones_until_others_are_better(scenes, whole, tmp_path):
    init = whole / "best.safetensors"
    spoiling = dataclasses.replace(CONFIG, rate=5.0)
    loop.train(Photos(scenes), scenes, tmp_path, spoiling, init=init)
    kept, _ = load_tensors(tmp_path / "best.safetensors")
    same_tensors(kept, load_tensors(init)[0])
    last, _ = load_tensors(tmp_path / "last.safetensors")
    assert any(not torch.equal(last[name], value) for name, value in kept.items())


def test_a_run_from_before_a_setting_was_there_is_resumed(scenes, whole, tmp_path):
    state, header = state_of(whole)
    del header["recipe"]["train"]["data"]["noise_levels"]
    tmp_path.mkdir(exist_ok=True)
    save_tensors(tmp_path / "checkpoint.safetensors", state, header)
    assert Run(tmp_path, CONFIG).patches == 48
    other = dataclasses.replace(CONFIG.data, noise_levels=((1e-3, 1e-5),))
    with pytest.raises(KpnError, match="noise_levels"):
        Run(tmp_path, dataclasses.replace(CONFIG, data=other))


def test_a_run_from_before_planes_were_mixed_is_resumed_without(scenes, tmp_path):
    without = dataclasses.replace(
        CONFIG, patches=8, network=dataclasses.replace(CONFIG.network, scales=0)
    )
    loop.train(Photos(scenes), [], tmp_path, without)
    state, header = state_of(tmp_path)
    del header["recipe"]["train"]["network"]["scales"], header["config"]["scales"]
    save_tensors(tmp_path / "checkpoint.safetensors", state, header)
    assert Run(tmp_path, without).patches == 8
    with pytest.raises(KpnError, match=r"scales 0, not 2 \(--mix, --no-mix\)"):
        Run(tmp_path, dataclasses.replace(without, network=CONFIG.network))


def test_a_run_from_before_brackets_is_not_resumed_on_other_data(scenes, whole, tmp_path):
    state, header = state_of(whole)
    for name in ("defects", "bracket", "uneven"):
        del header["recipe"]["train"]["data"][name]
    save_tensors(tmp_path / "checkpoint.safetensors", state, header)
    with pytest.raises(KpnError, match=r"bracket 0, not 0\.15"):
        Run(tmp_path, CONFIG)


def test_a_constant_rate_falls_to_nothing_over_a_cooldown():
    config = TrainConfig(patches=16_000, batch=16, rate=1e-3, schedule="constant", cooldown=8_000)
    assert config.rate_at(499) == config.rate_at(500) == 1e-3
    assert config.rate_at(750) == pytest.approx(5e-4)
    assert config.rate_at(999) == pytest.approx(2e-6)


def test_the_log_says_which_precision_was_used_and_why(whole):
    assert all(line["precision"] == "fp32" for line in log_of(whole))
    assert all(line["precision_reason"] == "as given" for line in log_of(whole))


@pytest.mark.parametrize(
    "recipe",
    [{"train": None}, {"train": {}}, {"train": {"loss": 1}}, {"patches": None}, {"best": "x"}],
)
def test_a_checkpoint_with_a_damaged_recipe_is_refused(whole, tmp_path, recipe):
    state, header = state_of(whole)
    header["recipe"] |= recipe
    save_tensors(tmp_path / "checkpoint.safetensors", state, header)
    with pytest.raises(KpnError, match=r"checkpoint\.safetensors: damaged"):
        Run(tmp_path, CONFIG)


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_checkpoint_with_a_damaged_optimiser_is_refused(whole, tmp_path, change):
    state, header = state_of(whole)
    name = "optimiser.3.exp_avg"
    if change == "missing":
        del state[name]
    else:
        state[name] = torch.zeros(7)
    save_tensors(tmp_path / "checkpoint.safetensors", state, header)
    with pytest.raises(KpnError, match="optimiser"):
        Run(tmp_path, CONFIG)


def test_only_a_better_table_replaces_the_best_weights(tmp_path):
    run = Run(tmp_path, CONFIG)
    assert run.save_best({"shifted": {"0": 30.0}})
    before = (tmp_path / "best.safetensors").read_bytes()
    assert not run.save_best({"shifted": {"0": 30.0}})
    assert (tmp_path / "best.safetensors").read_bytes() == before
    assert run.save_best({"shifted": {"0": 30.1}})


def test_validation_is_repeatable_and_leaves_the_network_in_training(scenes, tmp_path):
    run = Run(tmp_path, CONFIG)
    tables = [
        validation.validate(
            run.network, validation.validation_bursts(scenes, CONFIG.data), run.device, run.dtype
        )
        for _ in range(2)
    ]
    assert tables[0] == tables[1]
    assert run.network.training


def test_validation_bursts_are_the_protocol_s(scenes):
    sets = validation.validation_bursts(scenes, CONFIG.data)
    for name, gains in sets.items():
        for gain, bursts in gains.items():
            assert len(bursts) == len(scenes)
            for burst, white in zip(bursts, protocol.WHITE_LEVELS, strict=False):
                assert burst.burst.shape == (1, 8, 4, 16, 16)
                assert float(burst.white) == white
                shot, read = (value.reshape(-1, 4)[0, 0] for value in (burst.shot, burst.read))
                assert float(shot) == pytest.approx(protocol.GAINS[gain][0])
                noise = burst.burst - burst.truth[:, None]
                expected = (shot * burst.truth.mean() + read).item()
                if name == "static":  # else the frames differ by more than noise
                    assert noise.var().item() == pytest.approx(expected, rel=0.2)


def test_without_validation_photos_the_last_weights_are_the_result(scenes, tmp_path):
    short = dataclasses.replace(CONFIG, patches=4)
    path = loop.train(Photos(scenes), [], tmp_path, short)
    assert path == tmp_path / "last.safetensors"
    assert load_weights(path)[1]["patches"] == 4
    assert not (tmp_path / "best.safetensors").exists()


# --- learning ---------------------------------------------------------------


def test_the_loss_falls(scenes, tmp_path):
    batch = patches.draw_batch(scenes, (0, 0), range(4), dataclasses.replace(CONFIG.data, full=1))
    config = dataclasses.replace(CONFIG, patches=400, rate=0.1, loss=LossConfig(anneal=0))
    run = Run(tmp_path, config)
    losses = [float(run.train_step(batch)) for _ in range(40)]
    assert min(losses[-5:]) < losses[0] - 0.1  # of a logarithm: by a tenth and more


def test_the_shipped_average_follows_the_weights(scenes, tmp_path):
    run = Run(tmp_path, CONFIG)
    start = run.average.head_weight.clone()
    batch = patches.draw_batch(scenes, (0, 0), range(4), dataclasses.replace(CONFIG.data, full=1))
    for _ in range(10):
        run.train_step(batch)
    now = run.network.head_weight.detach()
    assert 0 < float((now - run.average.head_weight).norm()) < float((now - start).norm())
    assert not run.average.head_weight.requires_grad


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(
    scenes, whole, tmp_path, monkeypatch
):
    draw = patches.draw_batch

    def poisoned(scenes, seed, *rest):
        batch = draw(scenes, seed, *rest)
        if seed[1] == 6:
            batch.burst.fill_(math.nan)
        return batch

    monkeypatch.setattr(patches, "draw_batch", poisoned)
    with pytest.raises(KpnError, match=r"loss is nan.*--lr"):
        loop.train(Photos(scenes), [], tmp_path, dataclasses.replace(CONFIG, validate_every=1000))
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["recipe"]["patches"] == 16


def test_a_run_begins_with_the_weights_it_is_given(whole, tmp_path):
    init = whole / "last.safetensors"
    run = Run(tmp_path, CONFIG, init)
    same_tensors(run.network.state_dict(), load_weights(init)[0].state_dict())
    assert all(parameter.requires_grad for parameter in run.network.parameters())
    assert run.step == 0


def test_weights_without_a_wide_kernel_and_mixing_get_what_does_nothing_yet(scenes, tmp_path):
    torch.manual_seed(1)
    plain = KPN(dataclasses.replace(CONFIG.network, wide=False, scales=0))
    with torch.no_grad():
        plain.head_weight.mul_(100)
    save_weights(tmp_path / "plain.safetensors", plain, {})
    run = Run(tmp_path / "run", CONFIG, tmp_path / "plain.safetensors")
    burst = patches.draw_batch(scenes, (0, 0), range(2), CONFIG.data)
    with torch.no_grad():
        before, after = (
            restore(network, burst.burst, burst.shot, burst.read).clean
            for network in (plain, run.network)
        )
    torch.testing.assert_close(after, before)
    run.train_step(burst)
    assert run.network.head_weight[-25:].any()  # it has begun to learn
    assert run.network.mix_weight.any()


def test_weights_of_another_shape_cannot_begin_a_run(whole, tmp_path):
    config = dataclasses.replace(CONFIG, network=KPNConfig(widths=(8,), head=8))
    with pytest.raises(KpnError, match=r"last\.safetensors: is KPNConfig"):
        Run(tmp_path, config, whole / "last.safetensors")


def test_the_seed_decides_the_initial_weights(tmp_path):
    one, two, other = (
        Run(tmp_path / str(n), dataclasses.replace(CONFIG, seed=seed)).network.stem.weight
        for n, seed in enumerate((3, 3, 4))
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


# --- schedules --------------------------------------------------------------


def test_the_rate_rises_through_the_warm_up_then_falls_to_a_hundredth():
    config = TrainConfig(patches=160_000, batch=16, rate=1e-3)
    rates = [config.rate_at(step) for step in range(config.steps + 1)]
    assert rates[0] == pytest.approx(1e-3 / 200)
    assert max(rates) == pytest.approx(1e-3, rel=2e-3)
    top = rates.index(max(rates))
    assert 190 <= top <= 200
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(1e-5)
    assert config.rate_at(10 * config.steps) == rates[-1]


def test_the_per_frame_terms_are_gone_after_a_twentieth_of_the_run():
    config = TrainConfig(patches=160_000, batch=16)
    end = config.steps // 20
    assert config.loss.anneal_weight(0) == LossConfig.anneal
    assert config.loss.anneal_weight(end - 10) > 0
    assert config.loss.anneal_weight(end + 1) == 0


def test_a_loss_that_was_given_is_kept():
    loss = LossConfig(decay=0.5)
    assert TrainConfig(loss=loss).loss is loss


def test_steps_are_counted_up_to_the_last_patch():
    assert TrainConfig(patches=33, batch=16).steps == 3
    assert TrainConfig(patches=1, batch=16).steps == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"patches": 0},
        {"batch": 0},
        {"rate": 0},
        {"rate": -1.0},
        {"average": 1.0},
        {"average": -0.1},
        {"save_every": 0},
        {"validate_every": 0},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(KpnError, match="training"):
        TrainConfig(**wrong)


@pytest.mark.parametrize("anneal", [1e-9, 0.0005, 0.001])
def test_annealing_that_would_do_nothing_is_refused(anneal):
    assert LossConfig(anneal=0.0).anneal_weight(0) == 0
    assert LossConfig(anneal=2 * anneal + 0.001).anneal_weight(0) > 0
    with pytest.raises(KpnError, match="too little"):
        LossConfig(anneal=anneal)


def test_a_constant_rate_stays():
    config = TrainConfig(patches=160_000, batch=16, rate=1e-3, schedule="constant")
    assert config.rate_at(0) == pytest.approx(1e-3 / 200)
    assert {config.rate_at(step) for step in (200, 5000, 10_000, 10**6)} == {1e-3}


def test_an_unknown_schedule_is_refused():
    with pytest.raises(KpnError, match="cosine or constant"):
        TrainConfig(schedule="linear")


# --- ablations --------------------------------------------------------------


def test_ablations_differ_from_the_network_in_what_they_are_about():
    config = TrainConfig()
    assert with_variant(config, "kpn") == config
    direct, single, noanneal, blind = (with_variant(config, v) for v in VARIANTS[1:])
    assert direct.network == dataclasses.replace(config.network, output="pixels")
    assert not direct.network.wide and not direct.network.scales
    assert single.network.frames == single.data.frames == 1
    assert noanneal == dataclasses.replace(
        config, loss=dataclasses.replace(config.loss, anneal=0.0)
    )
    assert blind.network == dataclasses.replace(config.network, blind=True)
    for variant in (direct, single, noanneal, blind):
        same = {"network": config.network, "data": config.data, "loss": config.loss}
        assert dataclasses.replace(variant, **same) == config
    with pytest.raises(KpnError, match="variant paper"):
        with_variant(config, "paper")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_ablation_trains_is_saved_and_resumed(scenes, tmp_path, variant):
    config = with_variant(dataclasses.replace(CONFIG, patches=8), variant)
    loop.train(Photos(scenes), scenes, tmp_path, config)
    network, recipe = load_weights(tmp_path / "best.safetensors")
    assert network.config == config.network
    assert recipe["patches"] == 8
    longer = dataclasses.replace(config, patches=12)
    loop.train(Photos(scenes), scenes, tmp_path, longer)
    assert load_weights(tmp_path / "last.safetensors")[1]["patches"] == 12


def test_the_folder_of_one_ablation_is_no_place_for_another(scenes, tmp_path):
    short = dataclasses.replace(CONFIG, patches=4)
    loop.train(Photos(scenes), [], tmp_path, short)
    with pytest.raises(KpnError, match="holds a run with blind False, not True"):
        loop.train(Photos(scenes), [], tmp_path, with_variant(short, "blind"))


# --- stopping ---------------------------------------------------------------


def test_a_run_that_is_asked_to_stop_is_saved_and_goes_on_to_the_same_end(scenes, whole, tmp_path):
    seen, begun = [], []
    loop.train(
        Photos(scenes), [], tmp_path, CONFIG,
        should_stop=lambda: len(seen) >= 5, on_step=seen.append, on_start=begun.append,
    )  # fmt: skip
    assert seen == [4, 8, 12, 16, 20]
    assert state_of(tmp_path)[1]["recipe"]["patches"] == 20
    loop.train(Photos(scenes), [], tmp_path, CONFIG, on_start=begun.append)
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
    assert "the same command goes on" in said
    assert load_weights(run / "last.safetensors")[1]["patches"] > 0


def test_two_runs_in_one_folder_are_one_too_many(scenes, tmp_path):
    with sole_user(tmp_path), pytest.raises(KpnError, match="another kpn is at work"):
        loop.train(Photos(scenes), [], tmp_path, CONFIG)
    assert not list(tmp_path.iterdir())


# --- kill -9 ----------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path[:0] = [{tests!r}, {tests!r} + "/training"]
import test_loop
from pictures import scene
from kpn_cli.training import loop
from kpn_cli.synthesis.patches import Photos

count, real = 0, os.replace

def replace(*arguments):
    global count
    count += 1
    if count == {when}:  # the new file is written, but not yet in its place
        os.kill(os.getpid(), signal.SIGKILL)
    real(*arguments)

os.replace = replace
scenes = [scene(1, 120, 140), scene(2, 140, 120)]
loop.train(Photos(scenes), scenes, Path(sys.argv[1]), test_loop.CONFIG)
"""


@pytest.mark.parametrize("when", [2, 4, 5, 8])
def test_a_run_killed_while_it_writes_ends_with_the_bits_of_the_uninterrupted(
    scenes, whole, tmp_path, when
):
    """The files of a report, in order: best, last, checkpoint; `when` counts them all."""
    script = KILLED.format(tests=str(Path(__file__).parents[1]), when=when)
    killed = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(tmp_path.glob(".kpn-*"))
    loop.train(Photos(scenes), scenes, tmp_path, CONFIG)
    (state, header), (expected, expected_header) = state_of(tmp_path), state_of(whole)
    assert header == expected_header
    same_tensors(state, expected)
    assert log_of(tmp_path) == log_of(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in whole.iterdir()
    )


def test_a_line_of_the_log_that_was_cut_short_is_dropped(scenes, whole, tmp_path):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"patches": 64, "lo')
    loop.train(Photos(scenes), scenes, tmp_path, CONFIG)
    assert log_of(tmp_path) == log_of(whole)


# --- what else a run writes and how it draws --------------------------------


def test_threads_that_draw_the_data_change_nothing(scenes, whole, tmp_path):
    config = dataclasses.replace(CONFIG, workers=3)
    loop.train(Photos(scenes), scenes, tmp_path, config)
    same_tensors(state_of(tmp_path)[0], state_of(whole)[0])


def test_tensorboard_gets_curves_and_pictures(scenes, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop.train(Photos(scenes), scenes, tmp_path, CONFIG, board=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "train/rate", "psnr shifted/gain 1", "psnr static/gain 8"} <= scalars
    assert [event.step for event in events.Scalars("train/loss")] == [16, 24, 32, 48]
    assert set(events.Tags()["images"]) == {
        f"{name}/{title}"
        for name in ("shifted", "static", "bracket")
        for title in ("noisy, denoised, clean", "kernels")
    }
    kernels = events.Images("shifted/kernels")[-1]
    assert (kernels.width, kernels.height) == (9 * 6 * 16, 5 * 16)
