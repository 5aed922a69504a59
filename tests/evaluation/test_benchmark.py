"""Figures against baselines: what is compared, and on which bursts."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import scene

from kpn_cli.choices import BASELINES
from kpn_cli.evaluation.benchmark import draw_burst, evaluate
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.network.weights import load_weights

_SCENE = scene(1, 280, 300)


def figures(**options):
    network, _ = load_weights()
    table = evaluate(network, [_SCENE], gains=[4], frames=4, **options)
    return {name: found["psnr"] for name, found in table["4"].items()}


def test_every_denoiser_is_better_than_the_noisy_frame_and_the_network_best():
    found = figures(baselines=BASELINES)
    assert list(found) == ["kpn", *BASELINES]
    assert min(found, key=found.get) == "reference"
    assert max(found, key=found.get) == "kpn"
    assert found["nlm"] > found["reference"] + 2
    assert found["wavelets"] > found["reference"] + 2


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_noise_scale_affects_the_network_alone_and_lowers_its_psnr(scale):
    true, off = figures(), figures(noise_scale=scale)
    assert off.pop("kpn") < true.pop("kpn") - 0.1
    assert off == true


@pytest.mark.parametrize("static", [False, True])
def test_gains_differ_in_noise_alone(monkeypatch, static):
    noisy = [draw_burst(_SCENE, 3, gain, 3, 0, static) for gain in (1, 8)]
    assert (noisy[0].burst != noisy[1].burst).mean() > 0.9
    monkeypatch.setattr(NoiseModel, "sample", lambda self, clean, rng: clean)
    one, other = (draw_burst(_SCENE, 3, gain, 3, 0, static) for gain in (1, 8))
    np.testing.assert_array_equal(one.burst, other.burst)
    np.testing.assert_array_equal(one.truth, one.burst[0])
    assert static == (one.burst[0] == one.burst[1]).all()
