"""Networks in integers, computed in floating point."""

from __future__ import annotations

import torch

from kpn_cli.network import quantisation
from kpn_cli.network.kpn import KPN


def bursts_of(config, sigmas=(0.03, 0.01, 0.001)):
    """Bursts of a gradient with the noise that is stated; the engine's trial has such too."""
    torch.manual_seed(1)
    gradient, shape = torch.linspace(0, 0.5, 12), (1, config.frames, 4, 12, 12)
    return [
        (gradient + sigma * torch.randn(shape), torch.zeros(1, 4), torch.full((1, 4), sigma**2))
        for sigma in sigmas
    ]


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
