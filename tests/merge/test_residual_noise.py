"""The residual noise that is measured equals the one that is there."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from merged_bursts import NOISE, burst_of, shifts_of
from pictures import planes

from kpn_cli.burst.frame import Frame
from kpn_cli.merge import merge, residual_noise, tile
from kpn_cli.merge import strength as strength_module
from kpn_cli.network import cross_plane
from kpn_cli.network.kpn import KPN, KPNConfig
from kpn_cli.network.weights import load_weights
from kpn_cli.synthesis.protocol import noise_of_gain


def _pixels_network(config: KPNConfig) -> KPN:
    torch.manual_seed(0)
    return KPN(replace(config, output="pixels")).eval()


@pytest.mark.parametrize("what", ["all", "clipped", "hot", "pixels"])
@pytest.mark.parametrize(("gain", "count", "strength"), [(1, 1, 1), (4, 8, 1), (1, 8, 2)])
def test_the_residual_noise_is_what_two_bursts_of_a_scene_differ_by(
    tiny_config, what, gain, count, strength
):
    """With the kernels held fixed, up to 12 % less would be measured."""
    network = _pixels_network(tiny_config) if what == "pixels" else load_weights()[0]
    check_residual_noise(network, what, gain, count, strength)


def test_at_more_strength_the_residual_noise_of_a_single_frame_is_what_two_frames_differ_by():
    check_residual_noise(load_weights()[0], "all", 1, 1, 2, side=128)


@pytest.mark.parametrize(("gain", "count"), [(1, 1), (4, 4)])
def test_at_less_strength_the_residual_noise_is_what_two_bursts_differ_by(gain, count):
    """With the result for the clean signal, noise that it keeps would count twice."""
    check_residual_noise(load_weights()[0], "all", gain, count, 0.5, side=128)


@pytest.mark.parametrize(
    ("what", "gain", "count", "strength"),
    [("all", 1, 1, 1), ("all", 4, 8, 1), ("all", 1, 8, 2), ("all", 0, 8, 1), ("clipped", 4, 8, 1)],
)
def test_in_int8_the_residual_noise_is_what_two_bursts_of_a_scene_differ_by(
    what, gain, count, strength, shipped_int8
):
    check_residual_noise(shipped_int8, what, gain, count, strength)


def check_residual_noise(network, what, gain, count, strength, side=192):
    noise, rng = noise_of_gain(gain), np.random.default_rng(gain)
    scene = planes(5, side, side) * (2 if what == "clipped" else 1)
    sigma = np.sqrt(noise.variance(scene))
    if what == "hot":
        scene[rng.random(scene.shape) < 1e-4] = 1
    done, unclipped = [], np.ones_like(scene, bool)
    for _ in range(2):
        burst = np.minimum(noise.sample(np.stack([scene] * count), rng), 1)
        unclipped &= burst[0] < 1
        frames = [Frame(torch.from_numpy(samples)) for samples in burst]
        still = [torch.zeros_like(shift) for shift in shifts_of(frames)]
        done.append(merge.denoise_frames(network, frames, still, noise, strength=strength))
    differ = ((done[0].planes - done[1].planes) / sigma)[:, 8:-8, 8:-8]
    # Where noise tips a decision of the guard, the change is no noise.
    squares = np.minimum(differ[unclipped[:, 8:-8, 8:-8]] ** 2, 36)
    left = np.sqrt(squares.mean() / 2)
    # The added noise tips more decisions on hot samples than its share.
    assert np.sqrt(done[0].residual_noise) == pytest.approx(
        left, rel=0.12 if what == "hot" else 0.08
    )


def test_where_all_is_clipped_all_noise_is_residual(tiny_network):
    frames = [Frame(torch.ones(4, 40, 50)) for _ in range(2)]
    done = merge.denoise_frames(tiny_network, frames, shifts_of(frames), NOISE)
    assert done.residual_noise == 1


def test_the_residual_noise_is_measured_only_on_request(tiny_network):
    frames = burst_of(1)
    done = merge.denoise_frames(
        tiny_network, frames, shifts_of(frames), NOISE, measure_residual=False
    )
    assert done.residual_noise is None


@given(st.integers(1, 12_000))
def test_probes_lie_in_the_picture_and_never_overlap(length):
    spans = residual_noise._probe_spans(length, 8)
    cells = np.concatenate([np.arange(length)[span] for span in spans])
    assert len(cells) == sum(span.stop - span.start for span in spans)
    assert len(set(cells)) == len(cells)
    for span in spans:
        assert span.start % 8 == 0
        inner = residual_noise._inner(span, length)
        kept = np.arange(length)[span][inner]
        assert len(kept) > 0
        assert kept[0] == 0 or kept[0] - span.start == 24
        assert kept[-1] == length - 1 or span.stop - 1 - kept[-1] == 24


@pytest.mark.parametrize("length", [1, 95, 96, 191])
def test_along_a_short_side_a_single_square_has_all(length):
    """Of 96 cells between two cut borders, half would be used."""
    assert residual_noise._probe_spans(length, 8) == [slice(0, length)]


@pytest.mark.parametrize("alike", [0.0, 0.1, 0.25])
def test_the_residual_noise_is_that_of_kernels_and_detail(tiny_network, monkeypatch, alike):
    """A plain mean of n frames, which an untrained head gives on equal frames, leaves 1 / n."""
    monkeypatch.setattr(tile, "equilibrate_greens", lambda clean, *_: clean)  # has tests of its own
    if alike:  # the detail is the picture's, too, and the guard would bring it back
        kept_whole = lambda clean, *_, **__: (clean, torch.ones_like(clean[:, :1]))  # noqa: E731
        monkeypatch.setattr(tile, "fall_back_to_reference", kept_whole)
    weights = torch.zeros(2, 4, 4)
    weights[0] = alike * (1 - 4 * torch.eye(4))  # 0.25: the detail is the mean of all planes'
    with torch.no_grad():
        for parameter in (tiny_network.head_weight, tiny_network.head_bias):
            parameter.zero_()
        tiny_network.mix_weight.zero_()
        tiny_network.mix_bias.copy_(weights.flatten())
    frame = burst_of(1, size=(300, 300))[0]
    sigma = torch.from_numpy(NOISE.variance(frame.samples.numpy()) ** 0.5)
    noise = sigma * torch.randn(4, 4, 300, 300, generator=torch.Generator().manual_seed(1))
    everywhere = weights.flatten()[None, :, None, None].expand(4, -1, 300, 300)
    kept = float((cross_plane.add_detail(noise, everywhere) / sigma).var())
    assert kept == pytest.approx(1, rel=0.01) if alike == 0 else kept < 0.7
    frames = [frame] * 4
    done = merge.denoise_frames(tiny_network, frames, shifts_of(frames), NOISE)
    assert done.residual_noise == pytest.approx(kept / 4, rel=0.03)  # measured, not computed
    if alike == 0:
        np.testing.assert_allclose(done.planes, frame.samples.numpy(), atol=1e-5)


def test_the_residual_noise_includes_what_the_guard_brings_back(tiny_network, monkeypatch):
    """Half of the mean of 4 frames and half of one of them: 1/8 + 1/2, three times 1/8."""
    monkeypatch.setattr(tile, "equilibrate_greens", lambda clean, *_: clean)

    def half(clean, reference, *_, **__):
        return (clean + reference) / 2, torch.full_like(clean[:, :1], 0.5)

    monkeypatch.setattr(tile, "fall_back_to_reference", half)
    with torch.no_grad():
        for parameter in tiny_network.parameters():
            parameter.zero_()
    level, rng = 0.2, np.random.default_rng(0)
    scene = np.full((4, 4, 200, 200), level, np.float32)
    frames = [Frame(torch.from_numpy(planes)) for planes in NOISE.sample(scene, rng)]
    # The robustness weights are nearly equal, but not quite.
    done = merge.denoise_frames(tiny_network, frames, shifts_of(frames), NOISE)
    variance = (done.planes - level).var() / (frames[0].samples.numpy() - level).var()
    assert variance == pytest.approx((5 / 8) ** 2 + 3 / 8**2, rel=0.05)
    assert done.residual_noise == pytest.approx(variance, rel=0.05)


def test_the_residual_noise_falls_with_strength(shipped_network):
    network = shipped_network
    noise, rng = noise_of_gain(1), np.random.default_rng(0)
    scene = np.full((4, 4, 64, 64), 0.18, np.float32)
    frames = [Frame(torch.from_numpy(planes)) for planes in noise.sample(scene, rng)]
    left = [
        merge.denoise_frames(network, frames, shifts_of(frames), noise, strength=s).residual_noise
        for s in (0.5, 1, 2, 4)
    ]
    assert max(np.diff(left)) < 0


def test_the_residual_noise_above_strength_1_follows_the_share_of_the_assumed_noise(monkeypatch):
    """In texture the result under the assumed noise has the larger share."""
    network, _ = load_weights()
    frames = burst_of(4, size=(160, 160))
    real, shares = strength_module.assumed_share, []

    def kept(*arguments):
        shares.append(real(*arguments))
        return shares[-1]

    def left(share) -> float:
        monkeypatch.setattr(tile, "assumed_share", share)
        return merge.denoise_frames(
            network, frames, shifts_of(frames), NOISE, strength=2
        ).residual_noise

    plain = left(lambda x, *_: torch.zeros_like(x[:, :1]))
    assumed = left(lambda x, *_: torch.ones_like(x[:, :1]))
    assert assumed < 0.9 * plain
    between = left(kept)
    assert 0.5 < shares[0].mean() < 0.95
    assert assumed < between < (plain + assumed) / 2


@pytest.mark.parametrize("count", [1, 8])
def test_each_square_is_merged_twice_more_and_may_have_been_merged_with_its_surroundings(count):
    network, noise, rng = load_weights()[0], noise_of_gain(1), np.random.default_rng(0)
    scene = planes(5, 320, 320)
    frames = [Frame(torch.from_numpy(noise.sample(scene, rng))) for _ in range(count)]
    merger = tile.TileMerger(network, frames, shifts_of(frames), noise)
    whole = merger.merge(slice(0, 320), slice(0, 320)).clean[0]
    pieces, spans = whole.clone(), residual_noise._probe_spans(320, 8)
    for rows, columns in itertools.product(spans, spans):
        pieces[:, rows, columns] = merger.merge(rows, columns).clean[0]
    merges, merge_once = [], merger._merge
    merger._merge = lambda *given, **more: (
        merges.append(len(given[0])) or merge_once(*given, **more)
    )
    one, two = (
        residual_noise.measure_residual_noise(merger, (320, 320), picture)
        for picture in (whole, pieces)
    )
    assert sum(merges) == 2 * 2 * 9
    assert one == pytest.approx(two, rel=0.005)


def test_what_moves_is_no_noise(shipped_network):
    """The second frame shows another scene, which is no noise of the first."""
    noise, rng = noise_of_gain(1), np.random.default_rng(0)
    scenes = [planes(5, 192, 192), planes(6, 192, 192), planes(7, 192, 192)]
    left = []
    for others in (0, 2):
        frames = [
            Frame(torch.from_numpy(noise.sample(scene, rng))) for scene in scenes[: 1 + others]
        ]
        still = [torch.zeros_like(shift) for shift in shifts_of(frames)]
        done = merge.denoise_frames(shipped_network, frames, still, noise)
        left.append(done.residual_noise**0.5)
    assert left[1] == pytest.approx(left[0], rel=0.1)
