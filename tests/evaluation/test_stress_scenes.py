"""Scenes that go wrong in the field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pictures import scene

from kpn_cli.cli.app import main
from kpn_cli.evaluation import stress_scenes
from kpn_cli.network.weights import load_weights
from kpn_cli.synthesis import photos

VAL = Path(__file__).parents[3] / "shared" / "photos" / "val"


@pytest.fixture(scope="module")
def made():
    return [scene(1, 760, 760), scene(2, 760, 760)]


@pytest.mark.parametrize("name", stress_scenes.SCENES)
def test_the_reference_of_every_scene_shows_the_unchanged_photo(made, name):
    """What goes wrong goes wrong in other frames; an object may be in the reference too."""
    frames = stress_scenes.SCENES[name](*made, np.random.default_rng(0))
    assert frames.shape == (8, 4, 160, 160)
    assert frames.dtype == np.float32
    still = stress_scenes.SCENES["static"](*made, np.random.default_rng(1))
    assert (still == still[:1]).all()
    same = np.mean(frames[0] == still[0])
    assert same > 0.5 if "object moves" in name else same == 1
    assert name == "static" or not np.array_equal(frames[-1], frames[0])


def test_a_scene_s_place_is_in_its_seed_so_new_ones_come_last():
    assert list(stress_scenes.SCENES) == [
        "static", "within 2", "within 16", "within 64", "turned", "rolling shutter",
        "object moves", "one of another scene", "one black", "one brighter", "flicker",
        "half misaligned", "highlights", "bracket", "bracket, object moves",
    ]  # fmt: skip


@pytest.mark.parametrize("name", stress_scenes.SCENES)
def test_results_on_textures_are_never_worse_than_the_reference(made, name):
    """With the network that ships; of textures, which leave little to be gained."""
    network, _ = load_weights()
    for level in ("ISO 100", "gain 0", "gain 4"):
        outcome = stress_scenes.evaluate_scene(network, name, level, made, 0)
        assert outcome.gain > -0.05, level
        assert outcome.worst_block > -1, level


@pytest.mark.skipif(not VAL.exists(), reason="../shared is not there")
def test_results_on_photos_are_never_worse_than_the_reference():
    network, _ = load_weights()
    scenes = photos.load_scenes(sorted(VAL.iterdir())[:2])
    torch.manual_seed(0)
    table = stress_scenes.evaluate_scenes(network, scenes, levels=("ISO 100", "gain 0", "gain 2"))
    for name, row in table.items():
        for level, figures in row.items():
            assert figures["least"] > -0.05, (name, level)
            assert figures["block"] > -1, (name, level)
    assert stress_scenes.markdown_table(table).count("\n| ") == 1 + len(stress_scenes.SCENES)


def test_frames_of_another_scene_are_not_merged(made):
    network, _ = load_weights()
    used = {
        name: stress_scenes.evaluate_scene(network, name, "gain 1", made, 0).used
        for name in ("static", "one of another scene", "one black", "one brighter")
    }
    assert used == {
        "static": 8, "one of another scene": 7, "one black": 7, "one brighter": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    "option", [("--gains", "1"), ("--frames", "4"), ("--noise-scale", "2"), ("--ev", "0,2")]
)
def test_options_without_effect_on_stress_scenes_are_refused(tmp_path, option):
    run = CliRunner().invoke(main, ["eval", str(tmp_path), "--scenes", *option])
    assert run.exit_code == 2
    assert f"--scenes cannot be combined with {option[0]}" in run.stderr
