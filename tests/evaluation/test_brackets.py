"""Brackets against equal exposures: the same bursts, and what of them is compared."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from command_line import kpn
from pictures import photo, scene

from kpn_cli.evaluation import benchmark, brackets, metrics
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.merge import merge
from kpn_cli.network.weights import load_weights
from kpn_cli.synthesis.photos import Scene

_SCENE = scene(1, 280, 300)
_EVS = (-2.0, 0.0, 2.0)


def test_a_bracket_shows_the_scene_and_the_shifts_of_the_protocol_s_burst(monkeypatch):
    monkeypatch.setattr(NoiseModel, "sample", lambda self, clean, rng: clean.copy())
    test = brackets.draw_burst(_SCENE, 1, _EVS, 4, 4, 0)
    plain = benchmark.draw_burst(_SCENE, 1, 4, 4, 0)
    np.testing.assert_array_equal(test.equal, plain.burst)
    np.testing.assert_array_equal(test.truth, plain.truth)
    assert test.bracket.evs == (0, 2, -2, 0)
    gains = test.bracket.gains[:, None, None, None]
    np.testing.assert_allclose(test.recorded, np.minimum(plain.burst * gains, 1), rtol=1e-6)
    assert (test.recorded[1] == 1).any()


def test_gains_differ_in_noise_alone(monkeypatch):
    noisy = [brackets.draw_burst(_SCENE, 3, _EVS, gain, 3, 0) for gain in (1, 8)]
    assert (noisy[0].recorded[0] != noisy[1].recorded[0]).mean() > 0.9
    monkeypatch.setattr(NoiseModel, "sample", lambda self, clean, rng: clean.copy())
    one, other = (brackets.draw_burst(_SCENE, 3, _EVS, gain, 3, 0) for gain in (1, 8))
    np.testing.assert_array_equal(one.recorded, other.recorded)


def merged_frames(monkeypatch, bracket: brackets.Bracket) -> dict:
    """What `denoise_bracket` hands to the merge."""
    found = {}

    def denoise_burst(network, frames, noise, **options):
        found.update(options, frames=frames)

    monkeypatch.setattr(merge, "denoise_burst", denoise_burst)
    network, _ = load_weights()
    burst = np.zeros((len(bracket.evs), 4, 8, 8), np.float32)
    brackets.denoise_bracket(network, burst, NoiseModel.uniform(1e-3, 1e-5), bracket)
    return found


def test_frames_of_a_bracket_have_noise_of_their_own_and_only_the_stated_exposure(monkeypatch):
    test = brackets.draw_burst(_SCENE, 0, _EVS, 1, 3, 0)
    found = merged_frames(monkeypatch, test.bracket)
    assert found["stated"] == [1, 4, 0.25]
    assert all(frame.gain == 1 == frame.clip for frame in found["frames"])
    assert {frame.noise for frame in found["frames"]} == {NoiseModel.uniform(1e-3, 1e-5)}


def test_equal_exposures_are_merged_like_any_burst(monkeypatch):
    found = merged_frames(monkeypatch, brackets.equal_exposures(3))
    assert found["stated"] is None
    assert all(frame.noise is None for frame in found["frames"])


def test_the_shadows_are_the_darkest_third_of_the_truth():
    truth = np.broadcast_to(np.linspace(0, 1, 30, dtype=np.float32), (4, 30, 30))
    dark = metrics.darkest_third(truth)
    assert dark[:, :10].all()
    assert not dark[:, 10:].any()
    wrong_in_the_light = truth + 0.1 * ~dark
    assert metrics.psnr(wrong_in_the_light, truth, 1, dark) == np.inf
    assert metrics.psnr(wrong_in_the_light, truth, 1) < 40
    wrong_in_the_dark = truth + 0.01 * dark
    assert metrics.psnr(wrong_in_the_dark, truth, 1, dark) < metrics.psnr(
        wrong_in_the_dark, truth, 1
    )


def test_the_long_exposures_of_a_bracket_clean_up_its_shadows():
    """Of a scene that is dark enough not to clip in them."""
    network, _ = load_weights()
    dark = Scene("dark", _SCENE.channels // 8)
    table = brackets.evaluate(network, [dark], (0, 2), gains=[4], frames=4)
    assert list(table["4"]) == list(brackets.METHODS)
    shadows = {name: found["shadows"] for name, found in table["4"].items()}
    assert shadows["bracket"] > shadows["own"] + 0.5
    assert shadows["own"] > shadows["reference"] + 3


def test_eval_adds_a_table_of_brackets_only_when_asked_to(tmp_path, weights):
    cv2.imwrite(str(tmp_path / "photo.png"), photo(1, 280, 300))
    command = ["eval", tmp_path / "photo.png", "--gains", "1", "--frames", "3"]
    command += ["--weights", weights, "--baselines", "reference", "--json"]
    plain = json.loads(kpn(*command).stdout)
    run = kpn(*command, "--ev", "-2,0,2", "-o", tmp_path / "out")
    document = json.loads(run.stdout)
    assert document.pop("ev") == [-2, 0, 2]
    assert set(document.pop("bracket")["1"]) == set(brackets.METHODS)
    assert document == plain
    table = (tmp_path / "out" / "eval.md").read_text()
    assert "**bracket** of -2, 0, 2 EV" in table
    assert table.count("| the reference, not denoised |") == 1


@pytest.mark.parametrize("text", ["1", "0,x", "0,9"])
def test_exposures_that_are_no_bracket_are_wrong_usage(tmp_path, text):
    run = kpn("eval", tmp_path, "--ev", text)
    assert run.exit_code == 2
    assert "--ev" in run.stderr
