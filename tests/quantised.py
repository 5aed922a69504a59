"""Networks in integers, computed in floating point."""

from __future__ import annotations

import torch

from kpn_cli.network import quantisation
from kpn_cli.network.kpn import KPN


def bursts_of(config, number=3):
    torch.manual_seed(1)
    noise = torch.full((1, 4), 1e-4)
    return [(torch.rand(1, config.frames, 4, 12, 12), noise, noise) for _ in range(number)]


def in_integers(network: KPN) -> KPN:
    """The network whose U-Net rounds as the integers do, computed in floating point."""
    integers = quantisation.integer_unet(network, network.ranges)
    rounded = KPN(network.config)
    rounded.load_state_dict(network.state_dict())
    for name, layer in quantisation.layers(rounded).items():
        part = integers.layers[name]
        shape = (1, -1, 1, 1) if name.startswith("up.") else (-1, 1, 1, 1)
        layer.weight.data = part.weight * part.scale.view(shape)
        layer.bias.data = part.bias

        def to_integers(_, inputs, part=part):
            return ((inputs[0] / part.step).round() + part.zero).clamp(0, 255) - part.zero

        layer.register_forward_pre_hook(to_integers)
    return rounded


def channels_of(network: KPN, scaled: bool = False) -> torch.Tensor:
    with torch.inference_mode():
        channels, *_ = network.padded_input(*bursts_of(network.config)[0], None)
    if not scaled:
        return channels
    scale = quantisation.integer_unet(network, network.ranges).input_scale
    return channels * scale.view(-1, 1, 1)
