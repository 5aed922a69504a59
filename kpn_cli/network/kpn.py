"""The kernel prediction network (KPN): a burst and its noise -> one kernel per cell and frame.

After Mildenhall et al., "Burst Denoising with Kernel Prediction Networks" (CVPR 2018). Its symbols,
and what they are here:

    N            `count`, frames of a burst; up to `KPNConfig.frames`
    K            `KPNConfig.kernel`, side of a kernel
    X_i          `burst[:, i]`, the frames, counted from 0; X_0 is the reference
    p            a cell (2x2 sensor pixels); its four planes share one kernel
    f_i^p        `kernels[:, i, :, y, x]`, the kernel of frame i at p
    sigma_s^2    `shot`, variance per signal (S of the DNG NoiseProfile)
    sigma_r^2    `read`, variance at black (O)
    sigma_p      `robustness.sigma_map`, the noise estimate

Beyond the paper: kernels start from the robustness of the frames, the merged picture is filtered
once more with a dilated kernel, and its planes exchange detail (`cross_plane`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..align import robustness
from ..errors import KpnError
from ..system.bands import Band, bands, for_each
from . import cross_plane, features

#: The noise (S, O) that scales a blind network's input, whatever the true noise: the paper's
#: gain 1.
_BLIND_NOISE = (2.7e-3, 4.7e-5)
#: Cells whose input channels are computed together.
_CELLS_AT_ONCE = 2**15
#: Slope of the activation function below 0: with plain ReLUs whole training runs died at a
#: learning rate of 1e-3.
LEAKY_SLOPE = 0.1


@dataclass(frozen=True)
class KPNConfig:
    """The shape of a network; stored in the header of its weight file.

    Attributes:
        frames: the most frames it takes (N), the reference included.
        kernel: side of the kernels in cells (K), odd.
        widths: channels at each level of the U-Net, finest first; each level halves the size.
        extra_blocks: number of residual blocks at each level beside the one at its end, finest
            first; () for none.
        head: channels from which the kernels are predicted. The finest level is narrow because
            it costs most; its few channels alone could not tell frames * kernel^2 weights apart.
        output: "kernels", or "pixels": the mean by robustness weights plus what the network adds
            to it, in sigmas; for the paper's "direct" ablation. Such a network has neither a
            dilated kernel nor cross-plane detail.
        wide: whether it predicts one more, dilated kernel for the merged picture
            (`network.apply_kernels.apply_kernels`): what noisy bursts need.
        scales: number of scales at which the merged planes take each other's detail
            (`cross_plane.add_detail`); 0 for kernels alone.
        blind: nothing in the network knows the noise: another ablation. Its input is scaled as if
            the noise were that of gain 1, and all frames start with a weight of 1, so that
            kernels start from the plain mean.

    Raises:
        KpnError: for a shape that no network can have.
    """

    frames: int = 8
    kernel: int = 5
    widths: tuple[int, ...] = (32, 96, 192, 256)
    extra_blocks: tuple[int, ...] = ()
    head: int = 64
    output: str = "kernels"
    wide: bool = True
    scales: int = 2
    blind: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(width) for width in self.widths))
        extra = tuple(int(number) for number in self.extra_blocks)
        object.__setattr__(self, "extra_blocks", extra if any(extra) else ())
        if self.frames < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise KpnError(f"{self}: needs frames >= 1 and an odd kernel >= 1")
        if not self.widths or min(*self.widths, self.head) < 1:
            raise KpnError(f"{self}: needs at least one level, of at least one channel")
        if extra and (len(extra) != len(self.widths) or not 0 <= min(extra) <= max(extra) <= 9):
            raise KpnError(
                f"--extra-blocks {','.join(map(str, extra))}: give {len(self.widths)} numbers from "
                "0 to 9, one for each level of the network"
            )
        if self.scales < 0:
            raise KpnError(f"{self}: needs scales >= 0")
        if self.output not in ("kernels", "pixels"):
            raise KpnError(f"{self}: writes kernels or pixels")
        if self.output == "pixels":
            object.__setattr__(self, "wide", False)
            object.__setattr__(self, "scales", 0)

    @property
    def stride(self) -> int:
        """Heights and widths are padded to a multiple of this, in cells."""
        return 1 << (len(self.widths) - 1)

    @property
    def reach(self) -> int:
        """How far the U-Net's convolutions of 3x3 see at most, in cells on each side."""
        levels = len(self.widths)
        # A block has two of them. All levels have one at their end, inner ones one on the way down.
        blocks = [1] + [2] * (levels - 2) + [1] if levels > 1 else [0]
        extra = self.extra_blocks or (0,) * levels
        both = zip(blocks, extra, strict=True)
        return 1 + sum(2 * (own + more) << level for level, (own, more) in enumerate(both))


class PredictedKernels(NamedTuple):
    """What a network predicts for a burst.

    Attributes:
        kernels: `(batch, count, K*K, height, width)` in float32, taps row by row; they sum to
            `count` over frames and taps at every cell. With `KPNConfig.wide`, one more, the
            dilated kernel, which sums to 1.
        detail_weights: `(batch, scales * 16, height, width)` in float32, for
            `cross_plane.add_detail`; None without scales.
    """

    kernels: Tensor
    detail_weights: Tensor | None


class Encoded(NamedTuple):
    """What the kernels of a burst are computed from; any rows of it give the kernels of those rows.

    Attributes:
        features: `(batch, config.head, height, width)`, the U-Net's output.
        weights: `(batch, count, height, width)`, the weight from which each frame's kernel
            starts (`features.network_input`); ones for a blind network.
        light: `(batch, count, height, width)`, factor of each frame's kernel (`features.Runs`);
            None for 1.
    """

    features: Tensor
    weights: Tensor
    light: Tensor | None = None

    def part(self, rows: slice, columns: slice = slice(None)) -> Encoded:
        """Return a part of it."""
        light = None if self.light is None else self.light[..., rows, columns]
        return Encoded(self.features[..., rows, columns], self.weights[..., rows, columns], light)


class Head(NamedTuple):
    """A linear map of the U-Net's output at a cell.

    Attributes:
        weight: `(taps, config.head)`.
        bias: `(taps,)`.
    """

    weight: Tensor
    bias: Tensor


class UNetRunner(Protocol):
    """What runs the U-Net of a network in place of torch.

    Attributes:
        input_scale: `(channels,)`, by which the input channels are multiplied; None for 1.
    """

    input_scale: Tensor | None

    def __call__(self, channels: Tensor) -> Tensor:
        """Run it; arguments as for `KPN.unet`, but scaled."""


class Block(nn.Module):
    """A residual block of two 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():  # starts near the identity, so that no normalisation layer is needed
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, channels, height, width)` to the same shape."""
        hidden = self.first(F.leaky_relu(x, LEAKY_SLOPE))
        out: Tensor = x + self.second(F.leaky_relu(hidden, LEAKY_SLOPE))
        return out


class KPN(nn.Module):
    """Residual U-Net on packed planes with a linear head that predicts the kernels.

    The kernels f_i^p of a cell are the robustness weights of its frames (for a blind
    network, ones) on the centre taps, plus a learned correction whose sum over all frames
    and taps is zero. They sum to N by construction, so the network need not learn to keep
    the picture's brightness.

    Attributes:
        config: its shape.
        ranges: of its activations, for arithmetic in integers (`quantisation.Ranges`); None if they
            were not recorded.
        ranges_fault: why ranges that the weight file has are not in `ranges`; "" if they are.
        engine: what runs the U-Net in place of `unet`, such as `engine.UNet`; None for torch.
    """

    def __init__(self, config: KPNConfig) -> None:
        super().__init__()
        self.config = config
        self.ranges: dict[str, Tensor] | None = None
        self.ranges_fault = ""
        self.engine: UNetRunner | None = None
        widths = config.widths
        steps = list(pairwise(widths))
        channels = features.channel_count(config.frames)
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.encode = nn.ModuleList(Block(coarse) for _, coarse in steps)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in steps
        )
        self.decode = nn.ModuleList(Block(fine) for fine, _ in steps)
        self.extra = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(number)))
            for width, number in zip(widths, config.extra_blocks, strict=False)
        )
        self.widen = nn.Conv2d(widths[0], config.head, 1)
        pixels = config.output == "pixels"
        taps = 4 if pixels else (config.frames + config.wide) * config.kernel**2
        head = torch.empty(taps, config.head)
        if not head.is_meta:  # on meta, random numbers would cost a second of imports
            head.normal_().mul_(1e-3)
        self.head_weight = nn.Parameter(head)
        self.head_bias = nn.Parameter(torch.zeros(taps))
        if config.scales:
            count = cross_plane.weight_count(config.scales)
            self.mix_weight = nn.Parameter(torch.zeros(count, config.head))
            self.mix_bias = nn.Parameter(torch.zeros(count))

    def forward(
        self, burst: Tensor, shot: Tensor, read: Tensor, unclipped: Tensor | None = None
    ) -> PredictedKernels | Tensor:
        """Predict the kernels of a burst, and the weights of its planes' detail.

        Args:
            burst: `(batch, count, 4, height, width)` linear planes in the reference's exposure,
                the reference first, 1 <= count <= config.frames, any height and width.
            shot, read: variance coefficients of the noise in the reference's exposure,
                `(batch, count, 4)`, or `(batch, 4)` if all frames have the same.
            unclipped: `(batch, count, height, width)`, weights of `clipping.exclude_clipped`;
                None if nothing was excluded.

        Returns:
            Both; or, with `config.output` "pixels", the clean planes, `(batch, 4, height, width)`.
        """
        encoded = self.encoded(burst, shot, read, unclipped)
        x = encoded.features
        if self.config.output == "pixels":
            shot, read = map(robustness.reference_coefficients, self._assumed_noise(shot, read))
            sigma = robustness.sigma_map(burst[:, 0], shot, read)
            return self._pixels(x, burst, encoded.weights, sigma)
        return PredictedKernels(
            self.kernels(encoded), self.detail_weights(x) if self.config.scales else None
        )

    def encoded(
        self, burst: Tensor, shot: Tensor, read: Tensor, unclipped: Tensor | None = None
    ) -> Encoded:
        """Run the U-Net on a burst: all but the head.

        Args:
            burst, shot, read, unclipped: as in `forward`.
        """
        shot, read = self._assumed_noise(shot, read)
        height, width = burst.shape[-2:]
        channels, weights, light = self.padded_input(burst, shot, read, unclipped)
        if self.config.blind:  # at gain 1's noise, noisier frames would get no weight at all
            weights, light = torch.ones_like(weights), None
        encode = self.unet if self.engine is None else self.engine
        return Encoded(encode(channels)[..., :height, :width], weights, light)

    def _assumed_noise(self, shot: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise by which the input is normalised: a blind network's is fixed."""
        if not self.config.blind:
            return shot, read
        blind_shot, blind_read = _BLIND_NOISE
        return torch.full_like(shot, blind_shot), torch.full_like(shot, blind_read)

    def padded_input(
        self,
        burst: Tensor,
        shot: Tensor,
        read: Tensor,
        unclipped: Tensor | None,
        *,
        cells_at_once: int = _CELLS_AT_ONCE,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the U-Net's input, padded to a multiple of the stride, and `features.Runs`' rest.

        That is the weights and the light, not padded. The input is mirrored at its ends.

        Computed in bands of rows: the intermediate results are several times as large, and a
        band of them stays in the cache. The input has the memory layout and precision of the
        convolutions from the start.

        Args:
            burst, shot, read, unclipped: as in `forward`.
            cells_at_once: size of a band.
        """
        batch, count, _, height, width = burst.shape
        stride = self.config.stride
        shape = (height + -height % stride, width + -width % stride)
        kind, dtype = burst.device.type, burst.dtype
        if self.engine is None and torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        channels = torch.empty(
            (batch, self.stem.in_channels, *shape),
            dtype=dtype,
            device=burst.device,
            memory_format=torch.channels_last,
        )
        weights = burst.new_empty(batch, count, height, width)
        mixed = shot.dim() == 3 and count > 1
        light = torch.empty_like(weights) if mixed else None
        scale = None if self.engine is None else self.engine.input_scale
        step = max(cells_at_once // width, 1)

        def work(band: Band) -> None:
            runs, of_band, light_of_band = features.input_runs(
                burst[..., band.around, :],
                shot,
                read,
                self.config.frames,
                unclipped=None if unclipped is None else unclipped[..., band.around, :],
                rows=band.inner,
            )
            if sum(run.shape[1] for _, run in runs) < channels.shape[1]:
                channels[:, :, band.rows].zero_()
            for first, run in runs:
                last = first + run.shape[1]
                target = channels[:, first:last, band.rows, :width]
                if scale is None:
                    target.copy_(run)
                else:
                    torch.mul(run, scale[first:last, None, None], out=target)
            weights[:, :, band.rows] = of_band
            if light is not None and light_of_band is not None:
                light[:, :, band.rows] = light_of_band

        for_each(lambda: work, bands(height, step, features.REACH), burst.device)
        # Mirrored, because the noise of a border that is repeated looks like stripes to keep.
        channels[..., :height, width:] = channels[..., :height, _mirrored(width, stride)]
        channels[..., height:, :] = channels[..., _mirrored(height, stride), :]
        return channels, weights, light

    def kernels(self, encoded: Encoded, *, frames: bool = True, dilated: bool = True) -> Tensor:
        """Return the kernels of a burst, or of any part of it (`Encoded.part`).

        Args:
            encoded: the burst.
            frames: whether to include the kernels of the frames.
            dilated: whether to include the dilated kernel, if the network has one.

        Returns:
            `(batch, count, K*K, rows, width)`, float32, as `PredictedKernels.kernels`; with the
            dilated kernel `count + 1` of them, or it alone.
        """
        x, weights, light = encoded
        count, (height, width) = weights.shape[1], weights.shape[-2:]
        taps = self.config.kernel**2
        head = self.kernel_head(count if frames else 0, dilated=dilated)
        kernels = torch.unflatten(_projected(x, *head), 1, (-1, taps))
        start = (weights * (count / weights.sum(1, keepdim=True))).flatten(2)
        if frames and light is not None:
            of_frames = by_light(kernels[:, :count], light.flatten(2), start)
            kernels = torch.cat([of_frames, kernels[:, count:]], 1)
        # In place and behind autograd's back: the starting weights are constants, neither
        # backward reads the kernels, and a copy of them costs as much as applying them.
        centre = kernels.detach()[:, :, taps // 2]
        if frames:
            centre[:, :count].add_(start)
        centre[:, count if frames else 0 :].add_(1)
        return torch.unflatten(kernels, 3, (height, width))

    def kernel_head(self, count: int, *, dilated: bool) -> Head:
        """Return the head that predicts the corrections to kernels.

        They sum to zero at every cell over all frames, and over the dilated kernel. Subtracting
        the mean is linear, so it is done on the head's weights, once, and not on the kernels. In
        float32: in bf16 the rounding of 200 weights would leave their sum off by a thousandth,
        which shows as noise in clean pictures.

        Args:
            count: frames of the burst; 0 to leave out their kernels.
            dilated: whether to include the dilated kernel, if the network has one.
        """
        taps = self.config.kernel**2
        parts = [slice(0, count * taps)] if count else []
        if dilated and self.config.wide:
            parts.append(slice(self.config.frames * taps, None))
        weights = [self.head_weight[part] for part in parts]
        biases = [self.head_bias[part] for part in parts]
        return Head(
            torch.cat([part - part.mean(0) for part in weights]),
            torch.cat([part - part.mean() for part in biases]),
        )

    def detail_head(self) -> Head:
        """Return the head that predicts the weights of detail; the network has scales."""
        return Head(self.mix_weight, self.mix_bias)

    def detail_weights(self, x: Tensor) -> Tensor:
        """Return the weights for `cross_plane.add_detail` of any rows of what is `encoded`.

        Args:
            x: `(batch, config.head, rows, width)`, rows of `Encoded.features`; the network has
                scales.

        Returns:
            `(batch, scales * 16, rows, width)`, float32.
        """
        return torch.unflatten(_projected(x, *self.detail_head()), 2, x.shape[-2:])

    def unet(self, x: Tensor) -> Tensor:
        """Run the U-Net in torch.

        Args:
            x: `(batch, channels, height, width)`, the input channels (`features.network_input`);
                height and width are multiples of the stride.

        Returns:
            `(batch, config.head, height, width)`.
        """
        x = self.stem(x)
        skips = []
        for down, block in zip(self.down, self.encode, strict=True):
            skips.append(x)
            x = block(down(x))
        depth = len(self.down)
        x = self._extra(x, depth)
        for level in reversed(range(depth)):
            x = self.decode[level](self.up[level](x) + skips[level])
            x = self._extra(x, level)
        return F.leaky_relu(self.widen(F.leaky_relu(x, LEAKY_SLOPE)), LEAKY_SLOPE)

    def _extra(self, x: Tensor, level: int) -> Tensor:
        """Run the extra blocks of a level."""
        out: Tensor = self.extra[level](x) if len(self.extra) else x
        return out

    def _pixels(self, x: Tensor, burst: Tensor, weights: Tensor, sigma: Tensor) -> Tensor:
        """Return clean planes: the robust mean plus what the head predicts, in sigmas."""
        mean = (weights[:, :, None] * burst).sum(1) / weights.sum(1)[:, None]
        with torch.autocast(x.device.type, enabled=False):
            added = torch.einsum("bchw,pc->bphw", x.float(), self.head_weight)
            clean: Tensor = mean + sigma * (added + self.head_bias[:, None, None])
        return clean


def _mirrored(length: int, stride: int) -> list[int]:
    """Return the samples that continue an axis to a multiple of the stride, the last one first.

    An axis shorter than its continuation repeats its first sample.
    """
    return [max(length - 1 - number, 0) for number in range(-length % stride)]


def by_light(corrections: Tensor, light: Tensor, start: Tensor) -> Tensor:
    """Return corrections to the kernels of frames of one exposure as those of a bracket.

    Each is multiplied by the frame's light, as the kernels' start is by its definition. What their
    sum over frames and taps is off zero by then is taken from the centre taps, by the start.

    Args:
        corrections: `(..., count, K*K, cells)`.
        light: `(..., count, cells)` (`features.Runs`).
        start: `(..., count, cells)`, the centre taps from which kernels start; sums to `count`.
    """
    scaled = corrections * light[..., None, :]
    # Their own sum is zero; written so that a light of 1 changes nothing.
    off = (corrections.sum(-2) * (light - 1)).sum(-2) / light.shape[-2]
    middle = corrections.shape[-2] // 2
    taps = [scaled[..., :middle, :], scaled[..., middle + 1 :, :]]
    centre = scaled[..., middle, :] - start * off[..., None, :]
    return torch.cat([taps[0], centre[..., None, :], taps[1]], -2)


def _projected(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Project `(batch, channels, height, width)` to `(batch, taps, height * width)`, in float32.

    Args:
        weight, bias: `(taps, channels)` and `(taps,)`.
    """
    batch, channels, height, width = x.shape
    with torch.autocast(x.device.type, enabled=False):
        cells = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        return torch.baddbmm(
            bias[:, None].expand(batch, -1, -1),
            weight.expand(batch, -1, -1),
            cells.float().transpose(1, 2),
        )


class Projection:
    """Applies a head to rows of features, again and again in the same memory; not for training.

    The bias is one more column of the weights, for a channel that is 1: to start the sums of a
    matrix product from a bias takes another pass over the result. But where there are fewer taps
    than channels, that pass is shorter than copying the channels.
    """

    def __init__(self, head: Head, x: Tensor, rows: int) -> None:
        """Allocate the memory.

        Args:
            head: what to apply.
            x: `(batch, config.head, height, width)`, features like those that will come.
            rows: the most that will come at once.
        """
        self._weight = torch.cat([head.weight, head.bias[:, None]], 1)
        taps, channels = self._weight.shape
        cells = rows * x.shape[3]
        self._cells_first = x.stride(1) == 1
        shape = (cells, channels) if self._cells_first else (channels, cells)
        self._copied = taps >= channels or x.dtype != torch.float32
        self._features = torch.ones(shape if self._copied else 0, device=x.device)
        self._out = torch.empty(taps * cells, device=x.device)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product for `(config.head, rows, width)`: `(taps, rows * width)`, float32.

        It is overwritten by the next call.
        """
        channels, rows, width = x.shape
        features, cells = self._features, rows * width
        out = self._out[: len(self._weight) * cells].view(-1, cells)
        with torch.autocast(x.device.type, enabled=False):
            if not self._copied:
                weight, bias = self._weight[:, :-1], self._weight[:, -1:]
                return torch.addmm(bias, weight, x.flatten(1), out=out)
            features = features[:cells].t() if self._cells_first else features[:, :cells]
            torch.unflatten(features[:channels], 1, (rows, width)).copy_(x)
            return torch.mm(self._weight, features, out=out)


def extended(network: KPN, config: KPNConfig) -> KPN:
    """Return a network that has all parts of another shape, and still gives the same result.

    Those parts are the dilated kernel, cross-plane detail and extra blocks; the weights by which
    they add to the result are zero. A network that lacks none of them, or predicts pixels, is
    returned as it is.

    Args:
        network: keeps its weights.
        config: the shape whose `wide`, `scales` and `extra_blocks` are added.
    """
    old = network.config
    levels = range(len(config.extra_blocks or old.extra_blocks))
    new = replace(
        old,
        wide=old.wide or config.wide,
        scales=max(old.scales, config.scales),
        extra_blocks=tuple(
            max(0, 0, *old.extra_blocks[level : level + 1], *config.extra_blocks[level : level + 1])
            for level in levels
        ),
    )
    if new == old:
        return network
    larger = KPN(new)
    to_channels_last(larger)
    with torch.no_grad():
        before = network.state_dict()
        for name, value in larger.state_dict().items():
            if name not in before:
                if name.startswith("extra.") and ".second." in name:
                    value.zero_()
                continue  # others are zero from the start
            if before[name].shape != value.shape:
                value.zero_()
            value[tuple(slice(0, size) for size in before[name].shape)] = before[name]
    return larger


def to_channels_last(network: KPN) -> None:
    """Store a network's weights in the memory layout that its convolutions are fastest in."""
    # torch's stub knows no memory_format without a dtype.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
