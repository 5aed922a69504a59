"""Kernels x frames -> clean planes, compared with simple loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kernel_examples import by_loop, example

from kpn_cli.network import cross_plane
from kpn_cli.network.apply_kernels import DILATION, apply_kernels, restore, restore_in_bands
from kpn_cli.network.kpn import KPN, Encoded, KPNConfig


def test_one_kernel_more_than_frames_filters_the_merged_picture_dilated():
    burst, kernels = example(count=4, side=3)
    frames = burst[:, :3]
    mean = by_loop(frames, kernels[:, :3]).mean(1, keepdim=True)
    expected = by_loop(mean, kernels[:, 3:], DILATION)[:, 0]
    torch.testing.assert_close(apply_kernels(frames, kernels).clean, expected)


def test_merging_is_the_mean_of_the_filtered_frames():
    burst, kernels = example()
    torch.testing.assert_close(apply_kernels(burst, kernels).clean, by_loop(burst, kernels).mean(1))


def test_centre_taps_of_one_merge_to_the_plain_mean():
    burst, kernels = example(side=5, dtype=torch.float32)
    kernels.zero_()
    kernels[:, :, 12] = 1
    torch.testing.assert_close(apply_kernels(burst, kernels).clean, burst.mean(1))


# --- in bands ---------------------------------------------------------------


def _without_detail(network):
    bare = KPN(replace(network.config, scales=0))
    bare.load_state_dict({k: v for k, v in network.state_dict().items() if "mix" not in k})
    return bare


@pytest.mark.parametrize(("wide", "scales"), [(True, 2), (False, 1), (True, 0), (False, 0)])
@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
@pytest.mark.parametrize("count", [1, 3])
def test_kernels_computed_in_bands_give_the_same_result(wide, scales, rows_at_once, count):
    torch.manual_seed(0)
    network = KPN(KPNConfig(frames=3, widths=(8, 8), head=8, wide=wide, scales=scales))
    with torch.no_grad():
        network.head_weight.mul_(300)  # kernels that differ from cell to cell
        if scales:
            network.mix_weight.normal_(0, 0.1)
    burst = torch.rand(2, count, 4, 11, 13)
    noise = torch.full((2, 4), 1e-2)
    band_values = rows_at_once * 13 * 25 * count
    with torch.no_grad():
        whole = restore(network, burst, noise, noise)
        encoded = network.encoded(burst, noise, noise)
        clean, kept = restore_in_bands(network, burst, encoded, band_values=band_values)
        torch.testing.assert_close(clean, whole.clean)
        # The weight of the reference's own sample, measured: one sample is made brighter.
        place = (0, 0, slice(None), 5, 6)
        brighter = burst.clone()
        brighter[place] += 1
        risen = apply_kernels(brighter, *network(burst, noise, noise)).clean - whole.clean
        _, without = restore_in_bands(_without_detail(network), burst, encoded)
    assert whole.kernels.std((-2, -1)).max() > 0.01
    if scales:  # the detail brings back a little of what the kernels gave the neighbours
        torch.testing.assert_close(
            kept, without * cross_plane.self_weight(network.detail_weights(encoded.features))
        )
        assert (kept - without).abs().min() > 1e-6
    else:
        torch.testing.assert_close(risen[0, :, 5, 6], kept[0, 5, 6].expand(4), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
def test_kernels_of_a_bracket_computed_in_bands_give_the_same_result(wide, rows_at_once):
    """Their corrections follow each frame's light, by two paths: `kpn.by_light`, and in place."""
    torch.manual_seed(0)
    network = KPN(KPNConfig(frames=3, widths=(8, 8), head=8, wide=wide, scales=0))
    with torch.no_grad():
        network.head_weight.mul_(300)
    burst = torch.rand(2, 3, 4, 11, 13)
    shot = torch.tensor([1e-2, 2.5e-3, 4e-2])[None, :, None].expand(2, 3, 4)
    with torch.no_grad():
        whole = restore(network, burst, shot, shot)
        encoded = network.encoded(burst, shot, shot)
        assert encoded.light is not None
        assert encoded.light.std() > 0.1
        band_values = rows_at_once * 13 * 25 * 3
        clean, _ = restore_in_bands(network, burst, encoded, band_values=band_values)
        equal, _ = restore_in_bands(network, burst, encoded._replace(light=None))
    torch.testing.assert_close(clean, whole.clean)
    assert (clean - equal).abs().max() > 1e-3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("light", [None, torch.rand(2, 3, 31, 17) * 4])
def test_threads_layout_and_precision_of_the_features_do_not_change_the_result(
    layout, dtype, light
):
    torch.manual_seed(0)
    network = KPN(KPNConfig(frames=3, widths=(8, 8), head=8))
    with torch.no_grad():
        network.head_weight.mul_(300)
        network.mix_weight.normal_(0, 0.1)
    burst, weights = torch.rand(2, 3, 4, 31, 17), torch.rand(2, 3, 31, 17)
    x = torch.rand(2, 8, 31, 17).to(dtype)
    with torch.no_grad():
        x = x.contiguous(memory_format=layout)
        encoded = Encoded(x, weights, light)
        expected = apply_kernels(burst, network.kernels(encoded), network.detail_weights(x))
        before = torch.get_num_threads()
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(restore_in_bands(network, burst, encoded, band_values=5000))
        torch.set_num_threads(before)
    torch.testing.assert_close(results[0].clean, expected.clean)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_weights_for_some_rows_add_detail_there_alone():
    clean, weights = torch.rand(1, 4, 20, 9), torch.randn(1, 32, 20, 9)
    whole = cross_plane.add_detail(clean, weights)
    rows = slice(6, 11)
    torch.testing.assert_close(
        cross_plane.add_detail(clean, weights[:, :, rows], rows), whole[:, :, rows]
    )
