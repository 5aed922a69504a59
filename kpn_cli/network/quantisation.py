"""8-bit integers for the U-Net: activation ranges, and the integers of its convolutions.

A convolution sees its input x as integers from 0 to 255, `q = round(x / step) + zero`, and its
weights as integers from -127 to 127, with a scale for each output. All channels of an input share
one step, which is all that runtimes are fast at; so the channels are scaled alike before: each
activation is stored in units of its channel's largest value, and the weights on either side are
multiplied accordingly. Leaky ReLUs and sums do not mind. (Without these units, single photos lost
up to 3 dB; docs/log.md.) Biases, sums and activation functions stay in floating point.

The ranges are recorded on bursts (`training.activation_ranges`) and travel in the weight file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .kpn import KPN

#: Name of a layer -> `(channels, 2)` float32: lowest (at most 0) and highest value (above 0) of
#: each channel of its input.
Ranges = dict[str, Tensor]

#: Names of the ranges in weight files: this and the layer's name.
PREFIX = "ranges."
#: Number of the integers of an input, and the largest integer of a weight.
LEVELS, LARGEST_WEIGHT = 256, 127
#: Of an activation's largest value, what its lowest may be: a few channels that are mostly negative
#: must not take half of the integers from all others.
_NEGATIVE_SHARE = 0.25
#: Share of the bursts that may go beyond a range. The largest value of hundreds of bursts would be
#: an outlier, to which all others lose precision; with 3 %, clipped areas suffered (docs/log.md).
_BEYOND_SHARE = 0.01
#: Least width of a range: a channel that was silent while ranges were recorded.
_LEAST = 1e-6


class IntegerLayer(NamedTuple):
    """A convolution in integers: `out = scale * sum(weight * (q - zero)) + bias`.

    Attributes:
        step: q = round(x / step) + zero, clamped to [0, 255].
        zero: the integer that stands for 0.
        weight: int8, in the shape of the layer's weight.
        scale, bias: `(outputs,)`.
    """

    step: float
    zero: int
    weight: Tensor
    scale: Tensor
    bias: Tensor


class IntegerUNet(NamedTuple):
    """The U-Net in integers.

    Attributes:
        input_scale: `(channels,)`, multiplies the input channels.
        layers: name -> the convolution, for inputs and outputs in their units.
    """

    input_scale: Tensor
    layers: dict[str, IntegerLayer]


def layers(network: KPN) -> dict[str, nn.Conv2d | nn.ConvTranspose2d]:
    """Return the convolutions of a network's U-Net by name, as they are named in its state dict."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return {name: part for name, part in network.named_modules() if isinstance(part, kinds)}


def blocks(network: KPN) -> Iterator[tuple[str, int]]:
    """Yield the name of each residual block of a network's U-Net, and its level."""
    for level in range(len(network.down)):
        yield f"encode.{level}", level + 1
        yield f"decode.{level}", level
    for level, extra in enumerate(network.config.extra_blocks):
        for number in range(extra):
            yield f"extra.{level}.{number}", level


def fits_integers(network: KPN) -> bool:
    """Whether a network can run in integers: the ablations "direct" and "blind" cannot."""
    return network.config.output == "kernels" and not network.config.blind


def record_ranges(network: KPN, bursts: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Ranges:
    """Return the range of each channel of each convolution's input, over bursts.

    All but one in a hundred bursts stay within a channel's lowest value, and within its highest.

    Args:
        network: in evaluation mode, in float32.
        bursts: `burst`, `shot` and `read` of each, as for `KPN.encoded`; at least one.
    """
    found: dict[str, list[Tensor]] = defaultdict(list)

    def hook(name: str, x: Tensor) -> None:
        found[name].append(torch.stack([-x.amin((0, 2, 3)), x.amax((0, 2, 3))], 1).float().cpu())

    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: hook(name, inputs[0]))
        for name, layer in layers(network).items()
    ]
    try:
        with torch.inference_mode():
            for burst, shot, read in bursts:
                network.encoded(burst, shot, read)
    finally:
        for handle in handles:
            handle.remove()
    ranges = {}
    for name, extremes in found.items():
        beyond = max(round(_BEYOND_SHARE * len(extremes)), 1)
        below, above = torch.stack(extremes).topk(beyond, 0).values[-1].unbind(1)
        ranges[name] = torch.stack([-below.clamp_min(0), above.clamp_min(_LEAST)], 1)
    return ranges


def fault_of(network: KPN, ranges: Mapping[str, Tensor]) -> str:
    """Return what is wrong with the ranges of a network, or "" if they fit."""
    expected = {name: layer.in_channels for name, layer in layers(network).items()}
    if set(ranges) != set(expected):
        odd = sorted(set(ranges) ^ set(expected))
        return f"ranges of other layers ({', '.join(odd[:3])})"
    for name, channels in expected.items():
        values = ranges[name]
        if tuple(values.shape) != (channels, 2):
            return f"{name}: {tuple(values.shape)} instead of {(channels, 2)} values"
        low, high = values.float().unbind(1)
        if not (torch.isfinite(values).all() and (low <= 0).all() and (high > 0).all()):
            return f"{name}: not a range around 0"
    return ""


def _readers(network: KPN) -> list[list[str]]:
    """Return the layers that read the sums of each level, finest first."""
    depth = len(network.down)
    readers: list[list[str]] = [[] for _ in range(depth + 1)]
    readers[0].append("widen")
    for level in range(depth):
        readers[level].append(f"down.{level}")
        readers[level + 1].append(f"up.{level}")
    for block, level in blocks(network):
        readers[level].append(f"{block}.first")
    return readers


def integer_unet(network: KPN, ranges: Ranges) -> IntegerUNet:
    """Return the integers of a network's U-Net.

    Args:
        network: for which the ranges were recorded.
        ranges: that fit it (`fault_of`).
    """
    largest = {name: values.double().abs().amax(1) for name, values in ranges.items()}
    depth = len(network.down)
    # A level's sums run through all its layers: one unit for all that read them.
    readers = _readers(network)
    units = [torch.stack([largest[name] for name in names]).amax(0) for names in readers]
    ends = {"stem": (largest["stem"], units[0]), "widen": (units[0], None)}
    for level in range(depth):
        fine, coarse = units[level], units[level + 1]
        ends[f"down.{level}"], ends[f"up.{level}"] = (fine, coarse), (coarse, fine)
    for block, level in blocks(network):
        low, high = ranges[f"{block}.second"].double().unbind(1)
        hidden, unit = torch.maximum(high, -low / _NEGATIVE_SHARE), units[level]
        ends[f"{block}.first"], ends[f"{block}.second"] = (unit, hidden), (hidden, unit)
    integers = {
        name: _integer_layer(layer, ranges[name].double(), *ends[name])
        for name, layer in layers(network).items()
    }
    return IntegerUNet((1 / largest["stem"]).float(), integers)


def _integer_layer(
    layer: nn.Conv2d | nn.ConvTranspose2d, ranges: Tensor, before: Tensor, after: Tensor | None
) -> IntegerLayer:
    """Return a layer's integers.

    Args:
        layer: a convolution, or a transposed one, whose zero is the middle: runtimes have no
            fast arithmetic for it otherwise.
        ranges: `(inputs, 2)`, of its input.
        before, after: `(inputs,)` and `(outputs,)`, units of its input and its output; None
            for units of 1.
    """
    transposed = isinstance(layer, nn.ConvTranspose2d)
    inputs, outputs = (0, 1) if transposed else (1, 0)
    weight = layer.weight.detach().double().cpu() * _along(before, inputs)
    bias = torch.zeros(weight.shape[outputs], dtype=torch.double)
    if layer.bias is not None:
        bias = layer.bias.detach().double().cpu()
    if after is not None:
        weight, bias = weight / _along(after, outputs), bias / after
    low = float((ranges[:, 0] / before).min())
    high = float((ranges[:, 1] / before).max())
    last = LEVELS - 1
    zero = LEVELS // 2 if transposed else round(last * -low / (high - low))
    zero = min(max(zero, int(low < 0)), last - 1)
    step = max(high / (last - zero), -low / zero if zero else 0)
    others = [axis for axis in range(4) if axis != outputs]
    scale = weight.abs().amax(others).clamp_min(1e-30) / LARGEST_WEIGHT
    integers = _rounded(weight / _along(scale, outputs), keep_sums=not transposed)
    return IntegerLayer(step, zero, integers, (scale * step).float(), bias.float())


def _rounded(weight: Tensor, *, keep_sums: bool) -> Tensor:
    """Round weights to int8, `(a, b, rows, columns)`.

    Args:
        weight: within +-`LARGEST_WEIGHT`.
        keep_sums: whether the sum over rows and columns is kept to half a unit: the taps that are
            nearest to the next integer are rounded the other way. Where its input is smooth, the
            output depends on this sum alone.
    """
    taps = weight.flatten(2)
    nearest = taps.round()
    if keep_sums:
        error = taps - nearest
        excess = error.sum(2, keepdim=True).round()
        order = (error * excess.sign()).argsort(2, descending=True).argsort(2)
        nearest += excess.sign() * (order < excess.abs())
    return nearest.clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT).to(torch.int8).view_as(weight)


def _along(values: Tensor, axis: int) -> Tensor:
    """Return values along one axis of a weight of four."""
    shape = [1] * 4
    shape[axis] = -1
    return values.view(shape)
