"""The classifier and the mixture that turns its ratios into decisions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from kpn_cli.defects import classifier, features
from kpn_cli.defects.classifier import Classifier, Mixture

SAMPLES = 400_000


def random_classifier(rng: np.random.Generator) -> Classifier:
    sizes = (features.LENGTH, *classifier.HIDDEN, 1)
    shapes = list(pairwise(sizes))
    weights = [rng.normal(0, 0.3, (b, a)).astype(np.float32) for a, b in shapes]
    biases = [rng.normal(0, 0.3, b).astype(np.float32) for _, b in shapes]
    return Classifier(tuple(weights), tuple(biases))


def test_the_ratio_is_that_of_a_torch_network(rng):
    ours = random_classifier(rng)
    layers = []
    for weight, bias in zip(ours.weights, ours.biases, strict=True):
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        layers += [layer, torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    values = rng.normal(0, 1, (50, features.LENGTH)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(values))[:, 0].numpy()
    np.testing.assert_allclose(ours.log_ratio(values), expected, rtol=1e-4, atol=1e-4)


def test_a_saved_classifier_is_read_as_it_was(rng, tmp_path, monkeypatch):
    ours = random_classifier(rng)
    classifier.save(ours, tmp_path / "defects.safetensors")
    monkeypatch.setattr(classifier, "files", lambda package: tmp_path)
    classifier.bundled.cache_clear()
    read = classifier.bundled()
    classifier.bundled.cache_clear()
    for one, other in zip(read.weights + read.biases, ours.weights + ours.biases, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_bundled_one_fits_the_features():
    assert classifier.bundled().weights[0].shape == (classifier.HIDDEN[0], features.LENGTH)


def ratios(rng: np.random.Generator, detail: int, defects: int) -> np.ndarray:
    return np.concatenate([rng.exponential(1 / 1.2, detail), rng.normal(9, 2, defects)])


def taken(ratio: np.ndarray, **how) -> np.ndarray:
    return Mixture.of(ratio, SAMPLES).are_defects(ratio, **{"still": True, "frames": 8} | how)


@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize("frames", [1, 8])
def test_detail_alone_is_never_taken(rng, still, frames):
    for _ in range(20):
        assert not taken(ratios(rng, 500, 0), still=still, frames=frames).any()


def test_many_clear_cases_lend_belief_to_doubtful_ones(rng):
    ratio = ratios(rng, 300, 80)
    chosen = taken(ratio)
    assert chosen[300:].mean() > 0.95
    assert chosen[:300].mean() < 0.2
    few = ratios(rng, 300, 2)
    assert ratio[chosen].min() < 6
    assert not taken(few)[few < 9].any()


def test_in_a_single_frame_more_is_asked_for(rng):
    ratio = ratios(rng, 300, 80)
    assert taken(ratio, frames=1).sum() < taken(ratio).sum()


def test_a_picture_without_suspects_has_none():
    assert taken(np.empty(0)).shape == (0,)
