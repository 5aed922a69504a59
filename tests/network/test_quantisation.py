"""Activation ranges and the integers of the U-Net, without a runtime."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from quantised import bursts_of, channels_of, in_integers

from kpn_cli.network import quantisation
from kpn_cli.network.kpn import KPN
from kpn_cli.network.weights import load_tensors, load_weights, save_tensors, save_weights


@pytest.fixture
def ranged_network(tiny_network) -> KPN:
    """A tiny network with its ranges."""
    tiny_network.ranges = quantisation.record_ranges(tiny_network, bursts_of(tiny_network.config))
    return tiny_network


def test_ranges_hold_what_the_layers_see(ranged_network):
    channels = torch.cat(
        [ranged_network.padded_input(*b, None)[0] for b in bursts_of(ranged_network.config)]
    )
    low, high = ranged_network.ranges["stem"].unbind(1)
    torch.testing.assert_close(low, channels.amin((0, 2, 3)).clamp_max(0))
    torch.testing.assert_close(high, channels.amax((0, 2, 3)).clamp_min(1e-6))


def test_a_rare_burst_does_not_stretch_the_ranges(tiny_network):
    """One in 199 goes beyond them; 3 in 201 do not."""
    bursts = bursts_of(tiny_network.config)
    burst, shot, read = bursts[0]
    bright = [(10 * burst, shot, read)]
    quiet, rare, frequent = (
        quantisation.record_ranges(tiny_network, [*bursts * 66, *bright * times])
        for times in (0, 1, 3)
    )
    assert all(torch.equal(rare[name], quiet[name]) for name in quiet)
    assert (frequent["stem"][:4, 1] > 2 * quiet["stem"][:4, 1]).all()  # of the mean of the frames


def test_recording_leaves_the_network_as_it_was(tiny_network):
    before = channels_of(tiny_network)
    quantisation.record_ranges(tiny_network, bursts_of(tiny_network.config))
    assert torch.equal(channels_of(tiny_network), before)
    assert not any(layer._forward_pre_hooks for layer in quantisation.layers(tiny_network).values())


def test_integers_compute_the_network_within_their_rounding(ranged_network):
    with torch.inference_mode():
        expected = ranged_network.unet(channels_of(ranged_network))
        found = in_integers(ranged_network).unet(channels_of(ranged_network, scaled=True))
    assert (found - expected).square().mean() < 0.03**2 * expected.square().mean()


def test_the_sum_of_a_kernels_taps_is_kept(ranged_network):
    """Where its input is smooth, the output depends on it alone."""
    weight = torch.rand(6, 5, 3, 3, dtype=torch.double) * 250 - 125
    rounded = quantisation._rounded(weight, keep_sums=True).double()
    assert (rounded - weight).abs().max() <= 1
    assert (rounded - weight).sum((2, 3)).abs().max() <= 0.5


def test_ranges_travel_in_the_weight_file(ranged_network, tmp_path):
    save_weights(tmp_path / "kpn.safetensors", ranged_network, {})
    network, _ = load_weights(tmp_path / "kpn.safetensors")
    assert network.ranges_fault == ""
    assert {name: value.tolist() for name, value in network.ranges.items()} == {
        name: value.tolist() for name, value in ranged_network.ranges.items()
    }
    assert list(network.state_dict()) == list(ranged_network.state_dict())


def test_a_file_without_ranges_loads_without(tiny_network, tmp_path):
    save_weights(tmp_path / "kpn.safetensors", tiny_network, {})
    network, _ = load_weights(tmp_path / "kpn.safetensors")
    assert network.ranges is None
    assert network.ranges_fault == ""


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda r: r.pop("ranges.stem"), "other layers"),
        (lambda r: r.update({"ranges.extra": torch.ones(3, 2)}), "other layers"),
        (lambda r: r.update({"ranges.stem": torch.ones(3, 2)}), "instead of"),
        (lambda r: r["ranges.stem"][0].fill_(float("nan")), "not a range"),
        (lambda r: r["ranges.stem"][0].copy_(torch.tensor([1.0, -1.0])), "not a range"),
        (lambda r: r["ranges.stem"][0].copy_(torch.tensor([0.0, 0.0])), "not a range"),
    ],
)
def test_ranges_that_do_not_fit_are_left_out_and_the_fault_is_told(
    ranged_network, tmp_path, spoil, why
):
    path = tmp_path / "kpn.safetensors"
    save_weights(path, ranged_network, {})
    tensors, header = load_tensors(path)
    spoil(tensors)
    save_tensors(path, tensors, header)
    network, _ = load_weights(path)
    assert network.ranges is None
    assert why in network.ranges_fault


@pytest.mark.parametrize("change", [{"output": "pixels"}, {"blind": True}])
def test_ablations_do_not_fit_integers(tiny_config, change):
    assert quantisation.fits_integers(KPN(tiny_config))
    assert not quantisation.fits_integers(KPN(replace(tiny_config, **change)))


@pytest.mark.parametrize(
    ("widths", "extra"), [((8,), ()), ((8,), (2,)), ((8, 8, 12), ()), ((8, 8, 12), (1, 0, 2))]
)
def test_networks_of_any_depth_have_integers(tiny_config, widths, extra):
    torch.manual_seed(0)
    network = KPN(replace(tiny_config, widths=widths, extra_blocks=extra)).eval()
    network.ranges = quantisation.record_ranges(network, bursts_of(network.config))
    assert quantisation.fault_of(network, network.ranges) == ""
    with torch.inference_mode():
        expected = network.unet(channels_of(network))
        found = in_integers(network).unet(channels_of(network, scaled=True))
    assert (found - expected).square().mean() < 0.05**2 * expected.square().mean()
