"""Training ends with the ranges of the activations; a command adds them later."""

from __future__ import annotations

import copy
import errno
import shutil
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from training_runs import CONFIG

from kpn_cli.cli.app import main
from kpn_cli.errors import KpnError
from kpn_cli.network.kpn import KPN
from kpn_cli.network.weights import load_weights, save_weights
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.demo import bundled_scene
from kpn_cli.synthesis.patches import PhotoSource
from kpn_cli.system import files
from kpn_cli.training import activation_ranges, loop
from kpn_cli.training.activation_ranges import add_ranges, burst_number, bursts_of, check_file

SMALL = SynthConfig(cells=16)


def test_the_same_photos_and_seed_give_the_same_file(scenes, weights, tmp_path):
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(weights.read_bytes())
        add_ranges(path, bursts_of(scenes, SMALL, seed, 4), {"seed": seed})
        files.append(path.read_bytes())
    assert files[0] == files[1] != files[2]
    network, recipe = load_weights(path)
    assert recipe["ranges"] == {"bursts": 4, "seed": 1}
    before = load_weights(weights)[0].state_dict()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_networks_that_run_in_floating_point_only_are_refused(scenes, tiny_config, tmp_path):
    path = tmp_path / "direct.safetensors"
    save_weights(path, KPN(replace(tiny_config, output="pixels")), {})
    with pytest.raises(KpnError, match=r"direct.safetensors: predicts pixels"):
        add_ranges(path, [], {})


def test_activations_that_are_not_finite_leave_the_file_as_it_was(scenes, weights, tmp_path):
    network, recipe = load_weights(weights)
    network = copy.deepcopy(network)
    for value in network.parameters():
        value.mul_(1e30)
    path = tmp_path / "huge.safetensors"
    save_weights(path, network, recipe)
    before = path.read_bytes()
    with pytest.raises(KpnError, match=r"huge.safetensors: its activations are not finite"):
        add_ranges(path, bursts_of(scenes, SMALL, 0, 1), {})
    assert path.read_bytes() == before


def test_weights_that_a_run_saves_during_the_recording_are_kept(scenes, weights, tmp_path):
    path = tmp_path / "last.safetensors"
    path.write_bytes(weights.read_bytes())

    def bursts():
        yield from bursts_of(scenes, SMALL, 0, 1)
        save_weights(path, load_weights(weights)[0], {"patches": 2})

    with pytest.raises(KpnError, match=r"last.safetensors: was changed by another program"):
        add_ranges(path, bursts(), {})
    assert load_weights(path)[1] == {"patches": 2}


def test_the_file_that_a_link_points_to_gets_the_ranges(scenes, weights, tmp_path):
    path, link = tmp_path / "v2.safetensors", tmp_path / "current.safetensors"
    path.write_bytes(weights.read_bytes())
    try:
        link.symlink_to(path.name)
    except OSError:
        pytest.skip("the system makes no links")
    add_ranges(link, bursts_of(scenes, SMALL, 0, 1), {})
    assert link.is_symlink()
    assert load_weights(path)[0].ranges is not None


def test_the_command_checks_the_file_before_it_reads_photos(tmp_path, monkeypatch):
    from kpn_cli.cli import train

    def fail(*_):
        raise AssertionError("photos were read first")

    monkeypatch.setattr(train, "load_photos", fail)
    path = tmp_path / "missing.safetensors"
    done = CliRunner().invoke(main, ["train", "photos", "--calibrate", str(path)])
    assert done.exit_code == 1
    assert "missing.safetensors: cannot be read" in done.output


def test_a_folder_that_takes_no_file_is_refused_before_the_recording(weights, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.os, "open", refuse)
    with pytest.raises(KpnError, match=f"{weights.parent.name}: cannot be written"):
        check_file(weights)


def test_the_command_adds_ranges_to_a_file(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(activation_ranges, "BURSTS", 2)
    from kpn_cli.cli import photos, train

    path = tmp_path / "own.safetensors"
    path.write_bytes(weights.read_bytes())
    monkeypatch.setattr(train, "load_photos", lambda *_: [bundled_scene()])
    assert photos.load_photos is not train.load_photos
    done = CliRunner().invoke(main, ["train", "photos", "--calibrate", str(path), "-q"])
    assert done.exit_code == 0, done.output
    network, recipe = load_weights(path)
    assert network.ranges is not None
    assert recipe["ranges"]["bursts"] == 2


@pytest.mark.parametrize("more", [["-o", "run"], ["--patches", "5"]])
def test_the_command_refuses_options_of_training_beside_it(weights, more):
    done = CliRunner().invoke(main, ["train", "photos", "--calibrate", str(weights), *more])
    assert done.exit_code == 2
    assert "--calibrate trains nothing" in done.output


def test_training_needs_a_folder():
    done = CliRunner().invoke(main, ["train", "photos"])
    assert done.exit_code == 2
    assert "--output" in done.output


def test_training_ends_with_ranges(whole):
    for name in ("last", "best"):
        network, recipe = load_weights(whole / f"{name}.safetensors")
        assert network.ranges is not None
        assert not network.ranges_fault
        assert recipe["ranges"]["bursts"] == burst_number(CONFIG.patches)


def test_an_interrupt_ends_the_recording_and_the_same_command_makes_it_up(
    whole, scenes, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    before = {name: (folder / name).read_bytes() for name in ("last.safetensors", "log.jsonl")}
    answers, drawn, notes = iter([False, False, False, True]), [], []
    draw = activation_ranges.draw_patch
    monkeypatch.setattr(
        activation_ranges, "draw_patch", lambda *args: drawn.append(0) or draw(*args)
    )
    run = (PhotoSource(scenes), scenes, folder, CONFIG)
    loop.train(*run, should_stop=lambda: next(answers), on_note=notes.append)
    assert len(drawn) == 3
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert notes == [f"{folder}: recording activation ranges for int8 on 64 bursts"]
    loop.train(*run)
    assert load_weights(folder / "last.safetensors")[0].ranges is not None


def test_long_training_records_on_more_bursts():
    numbers = [burst_number(patches) for patches in (1, 4000, 20_000, 10**7)]
    assert numbers == sorted(numbers)
    assert numbers[0] == numbers[1] < numbers[2] < numbers[3] == activation_ranges.BURSTS


def test_without_photos_a_line_tells_that_ranges_lack(scenes, tmp_path):
    class Shards:
        """A source of bursts that has no photos."""

        digest = "shards"

        def draw(self, *arguments):
            return PhotoSource(scenes).draw(*arguments)

    notes = []
    loop.train(Shards(), [], tmp_path, CONFIG, on_note=notes.append)
    assert notes == [
        f"{tmp_path}: the weights have no activation ranges for int8: they are recorded on "
        "photos; add them with kpn train --calibrate"
    ]
    assert load_weights(tmp_path / "last.safetensors")[0].ranges is None
