"""A run's state: checkpoint, log, best weights, and what is refused."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from training_runs import CONFIG, log_of, same_tensors, state_of

from kpn_cli.errors import KpnError
from kpn_cli.network.apply_kernels import restore
from kpn_cli.network.kpn import KPN, KPNConfig
from kpn_cli.network.weights import load_tensors, load_weights, save_tensors, save_weights
from kpn_cli.synthesis import patches
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.patches import PhotoSource
from kpn_cli.training import loop
from kpn_cli.training.run import MAX_GRADIENT_NORM, TrainingRun

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from pictures import scene
from training_runs import CONFIG
from kpn_cli.training import loop
from kpn_cli.synthesis.patches import PhotoSource

count, real = 0, os.replace

def replace(*arguments):
    global count
    count += 1
    if count == {when}:  # the new file is written, but not yet in its place
        os.kill(os.getpid(), signal.SIGKILL)
    real(*arguments)

os.replace = replace
scenes = [scene(1, 120, 140), scene(2, 140, 120)]
loop.train(PhotoSource(scenes), scenes, Path(sys.argv[1]), CONFIG)
"""


def gradient_norm(scenes, folder, largest):
    run = TrainingRun(folder, CONFIG, max_gradient_norm=largest)
    run.train_step(PhotoSource(scenes).draw((0, 0), range(4), CONFIG.data, map))
    squares = [(weight.grad**2).sum() for weight in run.network.parameters()]
    return float(torch.stack(squares).sum() ** 0.5)


def test_a_gradient_is_clipped_to_a_norm_of_one_by_default(scenes, tmp_path):
    assert MAX_GRADIENT_NORM == 1
    free = gradient_norm(scenes, tmp_path / "free", 1e9)
    assert free > 2
    assert gradient_norm(scenes, tmp_path / "half", free / 2) == pytest.approx(free / 2, rel=1e-4)
    assert gradient_norm(scenes, tmp_path / "one", 1.0) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"batch": 8}, "batch 4, not 8"),
        ({"network": KPNConfig(widths=(8, 8), head=4)}, "head 8, not 4"),
        ({"data": SynthConfig(cells=16, static=0.5)}, r"static 0\.15, not 0\.5"),
    ],
)
def test_the_folder_of_another_run_is_refused_and_left_unchanged(scenes, whole, changes, said):
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    with pytest.raises(KpnError, match=f"holds a run with {said};") as caught:
        loop.train(PhotoSource(scenes), scenes, whole, dataclasses.replace(CONFIG, **changes))
    assert str(whole) in str(caught.value)
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_a_damaged_checkpoint_is_refused_and_not_replaced(scenes, whole, tmp_path):
    damaged = tmp_path / "checkpoint.safetensors"
    damaged.write_bytes((whole / damaged.name).read_bytes()[:-100])
    size = damaged.stat().st_size
    with pytest.raises(KpnError, match=r"checkpoint\.safetensors: damaged"):
        loop.train(PhotoSource(scenes), [], tmp_path, CONFIG)
    assert damaged.stat().st_size == size
    assert [path.name for path in tmp_path.iterdir()] == [damaged.name]


def test_weights_instead_of_the_checkpoint_are_refused(scenes, whole, tmp_path):
    for name in ("last.safetensors", "best.safetensors"):
        (tmp_path / "checkpoint.safetensors").write_bytes((whole / name).read_bytes())
        with pytest.raises(KpnError, match=r"checkpoint\.safetensors"):
            loop.train(PhotoSource(scenes), [], tmp_path, CONFIG)


def test_a_checkpoint_without_its_recipe_is_refused(tmp_path, tiny_network):
    save_weights(tmp_path / "checkpoint.safetensors", tiny_network, {})
    with pytest.raises(KpnError, match=r"checkpoint\.safetensors"):
        TrainingRun(tmp_path, CONFIG)


def test_a_checkpoint_is_refused_as_weights(whole):
    with pytest.raises(KpnError, match=r"checkpoint; take last\.safetensors"):
        load_weights(whole / "checkpoint.safetensors")


def test_a_run_writes_weights_with_their_recipe(whole):
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


def test_the_best_weights_are_those_with_the_highest_mean_figure(whole):
    tables = [line["table"] for line in log_of(whole) if line["table"]]
    means = [sum(f for row in t.values() for f in row.values()) / 15 for t in tables]
    _, recipe = load_weights(whole / "best.safetensors")
    assert recipe["validation"] == tables[means.index(max(means))]
    assert recipe["best"] == pytest.approx(max(means))


def test_a_nan_validation_is_never_the_best(tmp_path):
    run = TrainingRun(tmp_path, CONFIG)
    assert not run.save_best({"shifted": {"0": math.nan}})
    assert run.save_best({"shifted": {"0": 30.0}})
    assert not run.save_best({"shifted": {"0": math.nan}})
    assert not run.save_best({"shifted": {"0": 1.0}})


def test_a_non_finite_gradient_makes_the_loss_non_finite(scenes, tmp_path):
    run = TrainingRun(tmp_path, CONFIG)
    run.network.stem.weight.register_hook(lambda gradient: gradient * math.inf)
    batch = patches.draw_batch(scenes, (0, 0), range(2), CONFIG.data)
    assert not torch.isfinite(run.train_step(batch))


def test_a_run_without_its_checkpoint_is_refused(scenes, whole, tmp_path):
    for path in whole.iterdir():
        if path.name != "checkpoint.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KpnError, match="not its checkpoint"):
        loop.train(PhotoSource(scenes), scenes, tmp_path, CONFIG)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_is_resumed_on_the_same_photos_only(scenes, whole):
    with pytest.raises(KpnError, match="on other photos"):
        loop.train(PhotoSource(scenes[:1]), scenes, whole, CONFIG)


def test_the_recipe_names_the_initial_weights_and_the_data(scenes, whole, tmp_path):
    init = tmp_path / "first.safetensors"
    init.write_bytes((whole / "last.safetensors").read_bytes())
    short = dataclasses.replace(CONFIG, patches=4)
    loop.train(PhotoSource(scenes), [], tmp_path / "run", short, init=init)
    recipe = load_weights(tmp_path / "run" / "last.safetensors")[1]
    assert recipe["init"]["name"] == "first.safetensors"
    assert recipe["init"]["sha256"] == sha256(init.read_bytes()).hexdigest()
    assert recipe["data"] == PhotoSource(scenes).digest
    init.unlink()  # not needed to go on
    longer = dataclasses.replace(CONFIG, patches=8)
    loop.train(PhotoSource(scenes), [], tmp_path / "run", longer, init=init)
    again = load_weights(tmp_path / "run" / "last.safetensors")[1]
    assert again["init"] == recipe["init"]


def test_the_best_weights_are_the_initial_ones_until_others_are_better(scenes, whole, tmp_path):
    init = whole / "best.safetensors"
    spoiling = dataclasses.replace(CONFIG, rate=5.0)
    loop.train(PhotoSource(scenes), scenes, tmp_path, spoiling, init=init)
    kept, _ = load_tensors(tmp_path / "best.safetensors")
    same_tensors(kept, load_tensors(init)[0])
    last, _ = load_tensors(tmp_path / "last.safetensors")
    assert any(not torch.equal(last[name], value) for name, value in kept.items())


def test_a_run_from_before_a_setting_existed_is_resumed(scenes, whole, tmp_path):
    state, header = state_of(whole)
    del header["recipe"]["train"]["data"]["noise_levels"]
    tmp_path.mkdir(exist_ok=True)
    save_tensors(tmp_path / "checkpoint.safetensors", state, header)
    assert TrainingRun(tmp_path, CONFIG).patches == 48
    other = dataclasses.replace(CONFIG.data, noise_levels=((1e-3, 1e-5),))
    with pytest.raises(KpnError, match="noise_levels"):
        TrainingRun(tmp_path, dataclasses.replace(CONFIG, data=other))


def test_a_run_from_before_cross_plane_detail_is_resumed_without_it(scenes, tmp_path):
    without = dataclasses.replace(
        CONFIG, patches=8, network=dataclasses.replace(CONFIG.network, scales=0)
    )
    loop.train(PhotoSource(scenes), [], tmp_path, without)
    state, header = state_of(tmp_path)
    del header["recipe"]["train"]["network"]["scales"], header["config"]["scales"]
    save_tensors(tmp_path / "checkpoint.safetensors", state, header)
    assert TrainingRun(tmp_path, without).patches == 8
    with pytest.raises(KpnError, match=r"scales 0, not 2 \(--mix, --no-mix\)"):
        TrainingRun(tmp_path, dataclasses.replace(without, network=CONFIG.network))


def test_a_run_from_before_brackets_is_not_resumed_on_other_data(scenes, whole, tmp_path):
    state, header = state_of(whole)
    for name in ("defects", "bracket", "uneven"):
        del header["recipe"]["train"]["data"][name]
    save_tensors(tmp_path / "checkpoint.safetensors", state, header)
    with pytest.raises(KpnError, match=r"bracket 0, not 0\.15"):
        TrainingRun(tmp_path, CONFIG)


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
        TrainingRun(tmp_path, CONFIG)


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
        TrainingRun(tmp_path, CONFIG)


def test_only_a_better_table_replaces_the_best_weights(tmp_path):
    run = TrainingRun(tmp_path, CONFIG)
    assert run.save_best({"shifted": {"0": 30.0}})
    before = (tmp_path / "best.safetensors").read_bytes()
    assert not run.save_best({"shifted": {"0": 30.0}})
    assert (tmp_path / "best.safetensors").read_bytes() == before
    assert run.save_best({"shifted": {"0": 30.1}})


def test_a_run_begins_with_the_weights_it_is_given(whole, tmp_path):
    init = whole / "last.safetensors"
    run = TrainingRun(tmp_path, CONFIG, init)
    same_tensors(run.network.state_dict(), load_weights(init)[0].state_dict())
    assert all(parameter.requires_grad for parameter in run.network.parameters())
    assert run.step == 0


def test_weights_without_dilated_kernel_and_cross_plane_detail_are_extended_by_a_neutral_one(
    scenes, tmp_path
):
    torch.manual_seed(1)
    plain = KPN(dataclasses.replace(CONFIG.network, wide=False, scales=0))
    with torch.no_grad():
        plain.head_weight.mul_(100)
    save_weights(tmp_path / "plain.safetensors", plain, {})
    run = TrainingRun(tmp_path / "run", CONFIG, tmp_path / "plain.safetensors")
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


def test_extra_blocks_leave_the_result_of_the_weights_that_get_them_and_learn(whole, tmp_path):
    init = whole / "last.safetensors"
    extra = tuple(1 for _ in CONFIG.network.widths)
    network = dataclasses.replace(CONFIG.network, extra_blocks=extra)
    run = TrainingRun(tmp_path, dataclasses.replace(CONFIG, network=network), init)
    burst = torch.rand(1, CONFIG.network.frames, 4, 16, 16)
    noise = torch.full((1, 4), 1e-3), torch.full((1, 4), 1e-5)
    before, _ = load_weights(init)
    with torch.no_grad():
        same_tensors(before(burst, *noise)._asdict(), run.network(burst, *noise)._asdict())
    run.save()
    after, _ = load_weights(tmp_path / "last.safetensors")
    assert after.config.extra_blocks == extra


def test_weights_of_another_shape_cannot_begin_a_run(whole, tmp_path):
    config = dataclasses.replace(CONFIG, network=KPNConfig(widths=(8,), head=8))
    with pytest.raises(KpnError, match=r"last\.safetensors: is KPNConfig"):
        TrainingRun(tmp_path, config, whole / "last.safetensors")


def test_the_seed_decides_the_initial_weights(tmp_path):
    one, two, other = (
        TrainingRun(tmp_path / str(n), dataclasses.replace(CONFIG, seed=seed)).network.stem.weight
        for n, seed in enumerate((3, 3, 4))
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("when", [2, 4, 5, 8])
def test_a_run_killed_while_it_writes_ends_with_the_bits_of_the_uninterrupted(
    scenes, whole, tmp_path, when
):
    """The files of a report, in order: best, last, checkpoint; `when` counts them all."""
    script = KILLED.format(tests=str(Path(__file__).parents[1]), when=when)
    killed = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(tmp_path.glob(".kpn-*"))
    loop.train(PhotoSource(scenes), scenes, tmp_path, CONFIG)
    (state, header), (expected, expected_header) = state_of(tmp_path), state_of(whole)
    assert header == expected_header
    same_tensors(state, expected)
    assert log_of(tmp_path) == log_of(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in whole.iterdir()
    )


def test_an_incomplete_line_of_the_log_is_dropped(scenes, whole, tmp_path):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"patches": 64, "lo')
    loop.train(PhotoSource(scenes), scenes, tmp_path, CONFIG)
    assert log_of(tmp_path) == log_of(whole)


def test_clipped_samples_of_other_frames_do_not_change_the_loss(scenes, tmp_path):
    config = dataclasses.replace(CONFIG.data, bracket=1, full=1)
    batch = PhotoSource(scenes).draw((0, 0), range(4), config)
    assert batch.clip is not None
    clipped = batch.burst >= 0.9999 * batch.clip[:, :, None, None, None]
    clipped[:, 0] = False
    assert clipped.any()
    brighter = dataclasses.replace(batch, burst=torch.where(clipped, 9.0, batch.burst))
    losses = [
        TrainingRun(tmp_path / name, CONFIG).train_step(one)
        for name, one in (("plain", batch), ("brighter", brighter))
    ]
    assert losses[0] == losses[1]
