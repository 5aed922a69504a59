"""The U-Net by OpenVINO, in 8-bit integers on the CPU.

The graph is built from the network's weights and activation ranges (`quantisation`) by calls of the
runtime's own operators: no model file, no converter. It is compiled for each size of picture (for
any size at once, the runtime would copy inputs and outputs into another layout, at half the
speed), so the tiles of a picture should have one size. Inputs and outputs are torch's own memory,
in the layout that both use (channels last).

OpenVINO is an optional dependency (`pip install openvino`, or the extra `fast`), imported when it
is first used.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import KpnError
from .kpn import KPN, LEAKY_SLOPE
from .quantisation import LEVELS, IntegerLayer, IntegerUNet, Ranges, integer_unet, layers

#: Sizes of tile for which the compiled graphs are kept: the pictures of a card may be upright too.
_SIZES_KEPT = 2
#: A trial run at the start may differ from torch by this share of the output's root mean square.
#: Rounding to 8 bits takes 0.06 to 0.08 of it. Nonsense takes more, and so do ranges of other
#: weights, ranges of the same size in another order (0.46), and ranges half as wide (0.3).
_LARGEST_ERROR = 0.25
#: Side of the trial's pictures in cells, at most, and their noise. Wrong ranges show in quiet ones.
_TRIAL_SIDE, _TRIAL_SIGMAS = 96, (0.01, 0.001)

_making_core = Lock()


class EngineError(Exception):
    """The runtime cannot be used; the message says why, in a few words.

    Attributes:
        is_absence: whether it is merely not installed.
    """

    def __init__(self, reason: str, *, is_absence: bool = False) -> None:
        super().__init__(reason)
        self.is_absence = is_absence


class UNet:
    """The U-Net of a network, compiled by OpenVINO for the CPU.

    Called in place of `KPN.unet`, with channels that were multiplied by `input_scale`:
    `(batch, channels, height, width)` float32 in the memory layout channels_last, height and width
    multiples of the network's stride -> `(batch, config.head, height, width)`, likewise. The same
    input gives the same bytes. Several threads may call it: one after the other runs.

    Attributes:
        input_scale: `(channels,)`, or None for 1.
    """

    def __init__(self, network: KPN, ranges: Ranges | None, *, half: bool = False) -> None:
        """Prepare the U-Net for `torch.get_num_threads()` threads, and try it.

        Args:
            network: on the CPU.
            ranges: of its activations; None to compute in floating point, for tests.
            half: whether what stays in floating point is bf16, which is faster on CPUs with AMX.

        Raises:
            EngineError: if the runtime is missing or broken, or computes nonsense.
        """
        openvino = _import()
        self._head, self._channels = network.config.head, network.stem.in_channels
        self._stride = network.config.stride
        integers = None if ranges is None else integer_unet(network, ranges)
        self.input_scale = None if integers is None else integers.input_scale
        self._settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            # The threads of torch run on the same cores, in turn with these.
            "ENABLE_CPU_PINNING": False,
        }
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._in_use = Lock()  # a request holds the memory of one input and one output
        try:
            self._tensor = openvino.Tensor
            with _making_core:
                self._core = _core()
            self._graph = _Graph(network, integers)
            self._check(network)
        except (RuntimeError, TypeError, ValueError, AttributeError, ImportError) as error:
            raise EngineError(f"OpenVINO failed ({_last_line(error)})") from None

    def __call__(self, channels: Tensor) -> Tensor:
        """Run the U-Net; see the class.

        Raises:
            MemoryError: if memory runs out.
            KpnError: if the runtime fails for another reason.
        """
        try:
            return self._run(channels)
        except RuntimeError as error:
            raise KpnError(f"OpenVINO failed ({_last_line(error)}); use --precision fp32") from None

    def _run(self, channels: Tensor) -> Tensor:
        """Do what a call does, but leave the runtime's errors as they are."""
        cells = channels.permute(0, 2, 3, 1).contiguous()
        out = torch.empty(*cells.shape[:3], self._head)
        try:
            with self._in_use:
                request = self._request(tuple(cells.shape))
                request.set_input_tensor(self._tensor(cells.numpy(), shared_memory=True))
                request.set_output_tensor(self._tensor(out.numpy(), shared_memory=True))
                request.infer()
        except RuntimeError as error:
            if "alloc" in str(error):
                raise MemoryError(_last_line(error)) from None
            raise
        return out.permute(0, 3, 1, 2)

    def prepare(self, height: int, width: int) -> None:
        """Compile the graph for a tile, before it is needed.

        Args:
            height, width: of the tile in cells.
        """
        sides = (-(-side // self._stride) * self._stride for side in (height, width))
        with self._in_use:
            self._request((1, *sides, self._channels))

    def release_memory(self) -> None:
        """Give back the memory of intermediate results; the next run allocates it anew."""
        with self._in_use:
            for request in self._requests.values():
                request.get_compiled_model().release_memory()

    def _request(self, shape: tuple[int, ...]) -> Any:
        """Return the compiled graph for a shape."""
        request = self._requests.pop(shape, None)
        if request is None:
            while len(self._requests) >= _SIZES_KEPT:
                self._requests.popitem(last=False)
            model = self._graph.model(shape)
            compiled = self._core.compile_model(model, "CPU", self._settings)
            request = compiled.create_infer_request()
        self._requests[shape] = request
        return request

    def _check(self, network: KPN) -> None:
        """Compare runs on small noisy pictures with torch's."""
        side = _TRIAL_SIDE // network.config.stride * network.config.stride
        noise = torch.randn(1, 1, 4, side, side, generator=torch.Generator().manual_seed(0))
        for sigma in _TRIAL_SIGMAS:
            burst = torch.linspace(0, 0.5, side) + sigma * noise
            shot, read = torch.zeros(1, 4), torch.full((1, 4), sigma**2)
            with torch.inference_mode():
                channels, *_ = network.padded_input(burst, shot, read, None)
                expected = network.unet(channels)
                if self.input_scale is not None:
                    channels = channels * self.input_scale.view(-1, 1, 1)
                error = (self._run(channels) - expected).square().mean().sqrt()
                # False for NaN too.
                if not error <= _LARGEST_ERROR * expected.square().mean().sqrt():
                    raise EngineError(
                        "a trial gives wrong values, by OpenVINO or by the activation ranges of "
                        "the weight file, which kpn train --calibrate makes anew"
                    )


def _import() -> Any:
    try:
        import openvino
    except ModuleNotFoundError as error:
        if error.name == "openvino":
            reason = "OpenVINO is not installed (pip install openvino)"
            raise EngineError(reason, is_absence=True) from None
        raise EngineError(f"OpenVINO cannot be imported ({_last_line(error)})") from None
    except (Exception, SystemExit) as error:  # a broken installation may raise anything
        raise EngineError(f"OpenVINO cannot be imported ({_last_line(error)})") from None
    return openvino


@cache
def _core() -> Any:
    """Return the runtime's core, of which a process has one, for good.

    On Linux, a core that begins to compile gives the thread a stack for signal handlers, and frees
    it at its end. Of two cores, the one that ends last would bring back the freed stack of the
    other: at the next signal that Python handles, such as Ctrl-C, the process would crash.
    """
    import openvino

    return openvino.Core()


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:160]


class _Graph:
    """Builds the graph of `KPN.unet` out of OpenVINO's operators."""

    def __init__(self, network: KPN, integers: IntegerUNet | None) -> None:
        from openvino import Model, opset13

        self._model, self._ops = Model, opset13
        self._depth = len(network.down)
        self._extra = network.config.extra_blocks
        self._layers, self._integers = layers(network), integers

    def model(self, shape: tuple[int, ...]) -> Any:
        """Return the model: `(batch, height, width, channels)` in and out.

        Args:
            shape: of its input.
        """
        ops, depth = self._ops, self._depth
        cells = ops.parameter(list(shape), np.float32, "channels")
        x = self._layer(ops.transpose(cells, np.array([0, 3, 1, 2])), "stem")
        skips = []
        for level in range(depth):
            skips.append(x)
            x = self._block(self._layer(x, f"down.{level}"), f"encode.{level}")
        x = self._extra_blocks(x, depth)
        for level in reversed(range(depth)):
            x = ops.add(self._layer(x, f"up.{level}"), skips[level])
            x = self._extra_blocks(self._block(x, f"decode.{level}"), level)
        x = self._leaky(self._layer(self._leaky(x), "widen"))
        result = ops.result(ops.transpose(x, np.array([0, 2, 3, 1])))
        return self._model([result], [cells], "unet")

    def _extra_blocks(self, x: Any, level: int) -> Any:
        """`kpn.KPN.extra` of a level."""
        for number in range(self._extra[level] if self._extra else 0):
            x = self._block(x, f"extra.{level}.{number}")
        return x

    def _block(self, x: Any, name: str) -> Any:
        """`kpn.Block`."""
        hidden = self._layer(self._leaky(x), f"{name}.first")
        return self._ops.add(x, self._layer(self._leaky(hidden), f"{name}.second"))

    def _leaky(self, x: Any) -> Any:
        return self._ops.prelu(x, self._constant(torch.tensor([LEAKY_SLOPE])))

    def _layer(self, x: Any, name: str) -> Any:
        layer = self._layers[name]
        if self._integers is None:
            bias = layer.bias
            weight = self._constant(layer.weight.detach())
        else:
            integers = self._integers.layers[name]
            bias = integers.bias
            x, weight = self._rounded(x, integers), self._weight(layer, integers)
        stride, padding = (list(map(int, value)) for value in (layer.stride, layer.padding))
        if isinstance(layer, nn.ConvTranspose2d):
            x = self._ops.convolution_backprop_data(x, weight, stride)
        else:
            x = self._ops.convolution(x, weight, stride, padding, padding, [1, 1])
        return x if bias is None else self._ops.add(x, self._constant(bias.detach()[:, None, None]))

    def _rounded(self, x: Any, integers: IntegerLayer) -> Any:
        """Round an input to integers, less their zero: from there on a step is 1."""
        low, high = -integers.zero, LEVELS - 1 - integers.zero
        limits = (low * integers.step, high * integers.step, low, high)
        # One value each, not one per channel, which would cost a third of the speed.
        values = (self._constant(torch.full((1, 1, 1, 1), float(value))) for value in limits)
        return self._ops.fake_quantize(x, *values, LEVELS)

    def _weight(self, layer: nn.Module, integers: IntegerLayer) -> Any:
        shape = (1, -1, 1, 1) if isinstance(layer, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        weight = self._ops.constant(integers.weight.contiguous().numpy())
        scale = self._constant(integers.scale.view(shape))
        return self._ops.multiply(self._ops.convert(weight, "f32"), scale)

    def _constant(self, values: Tensor) -> Any:
        return self._ops.constant(np.ascontiguousarray(values.numpy(), np.float32))
