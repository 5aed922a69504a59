"""The Kernel Prediction Network: a burst and its noise -> one kernel per cell and frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..align import robustness
from ..errors import KpnError
from . import cross_plane, features

#: By what a blind network's channels are scaled, whatever the noise: the paper's gain 1 (S, O).
_BLIND = (2.7e-3, 4.7e-5)
#: Cells that are prepared together.
_CELLS = 2**16
_SLOPE = 0.1  # of the leaky ReLU: with plain ReLUs whole runs died at a rate of 1e-3


@dataclass(frozen=True)
class KPNConfig:
    """The shape of a network; rides in the header of its weight file.

    Attributes:
        frames: the most frames it takes, the reference included.
        kernel: side of the kernels in cells, odd.
        widths: channels at each level, finest first; each level halves the size.
        head: channels from which the kernels are written. The finest level is
            narrow because it costs most; so few channels alone could not tell
            frames * kernel^2 weights apart.
        output: "kernels", or "pixels": the mean by robust weights and what the network adds to
            it, in sigmas; for the paper's "direct" ablation. They are neither widened nor mixed.
        wide: whether there is one more kernel, wide apart, for the merged picture
            (`restore.merge`): what noisy bursts need.
        scales: at how many scales the merged planes take each other's detail
            (`cross_plane.mixed`); 0 for kernels alone.
        blind: nothing in the network is told the noise: another ablation. It is shown the burst
            as if the noise were gain 1's, and all frames have a robust weight of 1, so that
            kernels start from the plain mean.
        noise_ratios: whether the network is shown each frame's noise relative to the
            reference's, for frames of different exposure.
    """

    frames: int = 8
    kernel: int = 5
    widths: tuple[int, ...] = (32, 96, 192, 256)
    head: int = 64
    output: str = "kernels"
    wide: bool = True
    scales: int = 2
    blind: bool = False
    noise_ratios: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(width) for width in self.widths))
        if self.frames < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise KpnError(f"{self}: needs frames >= 1 and an odd kernel >= 1")
        if not self.widths or min(*self.widths, self.head) < 1:
            raise KpnError(f"{self}: needs at least one level, of at least one channel")
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
        return 2 ** (len(self.widths) - 1)


class Written(NamedTuple):
    """What a network writes of a burst.

    Attributes:
        kernels: `(batch, count, K*K, height, width)` in float32; they sum to `count`
            over frames and taps at every cell. With `KPNConfig.wide`, one more, which sums to 1.
        mixing: `(batch, scales * 16, height, width)` in float32, weights for `cross_plane.mixed`;
            None of no scales.
    """

    kernels: Tensor
    mixing: Tensor | None


class Block(nn.Module):
    """Two 3x3 convolutions beside a straight path."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():  # begin near the identity: no normalisation layer is needed
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, width, height, width)` -> the same shape."""
        return x + self.second(F.leaky_relu(self.first(F.leaky_relu(x, _SLOPE)), _SLOPE))


class KPN(nn.Module):
    """Residual U-Net on packed planes with a linear head that writes the kernels.

    The kernels of a cell are the robust weights of its frames (of a blind network,
    ones) on the centre taps, plus a learned correction whose sum over all frames
    and taps is zero: they sum to the number of frames by construction, so the
    network need not learn to keep the picture's brightness.
    """

    def __init__(self, config: KPNConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        steps = list(pairwise(widths))
        shown = features.channels(config.frames, config.noise_ratios)
        self.stem = nn.Conv2d(shown, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.encode = nn.ModuleList(Block(coarse) for _, coarse in steps)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in steps
        )
        self.decode = nn.ModuleList(Block(fine) for fine, _ in steps)
        self.widen = nn.Conv2d(widths[0], config.head, 1)
        pixels = config.output == "pixels"
        taps = 4 if pixels else (config.frames + config.wide) * config.kernel**2
        head = torch.empty(taps, config.head)
        if not head.is_meta:  # where random numbers would cost a second of imports
            head.normal_().mul_(1e-3)
        self.head_weight = nn.Parameter(head)
        self.head_bias = nn.Parameter(torch.zeros(taps))
        if config.scales:
            self.mix_weight = nn.Parameter(
                torch.zeros(cross_plane.taps(config.scales), config.head)
            )
            self.mix_bias = nn.Parameter(torch.zeros(cross_plane.taps(config.scales)))

    def forward(
        self, burst: Tensor, shot: Tensor, read: Tensor, unclipped: Tensor | None = None
    ) -> Written | Tensor:
        """Return the kernels of a burst, and how its planes are mixed.

        Args:
            burst: `(batch, count, 4, height, width)` linear planes in the reference's exposure,
                the reference first, 1 <= count <= config.frames, any height and width.
            shot, read: variance coefficients of the noise in the reference's exposure,
                `(batch, count, 4)`, or `(batch, 4)` where all frames have the same.
            unclipped: `(batch, count, height, width)`, weights of `clipping.exclude_clipped`;
                None where nothing was left out.

        Returns:
            Both, or with `config.output` "pixels" the clean planes, `(batch, 4, height, width)`.
        """
        x, weights = self.seen(burst, shot, read, unclipped)
        if self.config.output == "pixels":
            shot, read = (
                robustness.reference_coefficients(value) for value in self._told(shot, read)
            )
            return self._pixels(x, burst, weights, robustness.sigma_map(burst[:, 0], shot, read))
        return Written(self.kernels(x, weights), self.mixing(x))

    def seen(
        self, burst: Tensor, shot: Tensor, read: Tensor, unclipped: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what the kernels of a burst are written from.

        Args:
            burst, shot, read, unclipped: as in `forward`.

        Returns:
            `(batch, config.head, height, width)` and the frames' robust weights,
            `(batch, count, height, width)`; of a blind network, ones.
        """
        shot, read = self._told(shot, read)
        height, width = burst.shape[-2:]
        shown, weights = self._shown(burst, shot, read, unclipped)
        if self.config.blind:  # with gain 1's, frames that are noisier would count for nothing
            weights = torch.ones_like(weights)
        return self._unet(shown)[..., :height, :width], weights

    def _told(self, shot: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        if not self.config.blind:
            return shot, read
        return tuple(torch.full_like(shot, value) for value in _BLIND)

    def _shown(
        self, burst: Tensor, shot: Tensor, read: Tensor, unclipped: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the U-Net is shown, up to a multiple of the stride, and the robust weights.

        Some rows at a time: what comes between is several times as large, and stays in a cache.
        In the layout and precision of the convolutions from the start.
        """
        batch, count, _, height, width = burst.shape
        stride, reach = self.config.stride, features.REACH
        shape = (height + -height % stride, width + -width % stride)
        kind, dtype = burst.device.type, burst.dtype
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        shown = torch.empty(
            (batch, self.stem.in_channels, *shape),
            dtype=dtype,
            device=burst.device,
            memory_format=torch.channels_last,
        )
        weights = burst.new_empty(batch, count, height, width)
        step = max(_CELLS // width, 1)
        for top in range(0, height, step):
            end = min(top + step, height)
            first, last = max(top - reach, 0), min(end + reach, height)
            some = features.prepare(
                burst[..., first:last, :],
                shot,
                read,
                self.config.frames,
                noise_ratios=self.config.noise_ratios,
                unclipped=None if unclipped is None else unclipped[..., first:last, :],
            )
            for whole, part in zip((shown, weights), some, strict=True):
                whole[..., top:end, :width] = part[..., top - first : end - first, :]
        shown[..., :height, width:] = shown[..., :height, width - 1 : width]
        shown[..., height:, :] = shown[..., height - 1 : height, :]
        return shown, weights

    def kernels(
        self, x: Tensor, weights: Tensor, *, frames: bool = True, wide: bool = True
    ) -> Tensor:
        """Return kernels as `forward` does, of any rows of what is `seen`.

        Args:
            x, weights: rows of what `seen` has returned.
            frames, wide: whether those of the frames, and the wide one if there is one,
                are wanted.
        """
        count, (height, width) = weights.shape[1], weights.shape[-2:]
        side = self.config.kernel**2
        parts = [slice(0, count * side)] if frames else []
        if wide and self.config.wide:
            parts.append(slice(self.config.frames * side, None))
        kernels = self._corrections(x, parts).unflatten(1, (-1, side))
        # In place and behind autograd's back: the base is a constant, neither
        # backward reads the kernels, and a copy of them costs as much as the merge.
        constant = kernels.detach()[:, :, side // 2]
        if frames:
            base = weights * (count / weights.sum(1, keepdim=True))
            constant[:, :count].add_(base.flatten(2))
        constant[:, count if frames else 0 :].add_(1)
        return kernels.unflatten(3, (height, width))

    def mixing(self, x: Tensor) -> Tensor | None:
        """Return weights for `cross_plane.mixed`, as `forward` does, of any rows of `seen`."""
        if not self.config.scales:
            return None
        return _projected(x, self.mix_weight, self.mix_bias).unflatten(2, x.shape[-2:])

    def _unet(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for down, block in zip(self.down, self.encode, strict=True):
            skips.append(x)
            x = block(down(x))
        for up, block, skip in zip(
            reversed(self.up), reversed(self.decode), reversed(skips), strict=True
        ):
            x = block(up(x) + skip)
        return F.leaky_relu(self.widen(F.leaky_relu(x, _SLOPE)), _SLOPE)

    def _pixels(self, x: Tensor, burst: Tensor, weights: Tensor, sigma: Tensor) -> Tensor:
        """Clean planes: the robust mean and what is added to it, in sigmas."""
        mean = (weights[:, :, None] * burst).sum(1) / weights.sum(1)[:, None]
        with torch.autocast(x.device.type, enabled=False):
            added = torch.einsum("bchw,pc->bphw", x.float(), self.head_weight)
            return mean + sigma * (added + self.head_bias[:, None, None])

    def _corrections(self, x: Tensor, parts: list[slice]) -> Tensor:
        """Corrections to the kernels, `(batch, taps, height * width)`.

        They sum to zero at every cell over each part of the head: over all frames, and over
        the wide kernel. The projection is linear, so it is done on the weights, once, and
        not on the pixels. In float32: in bf16 the rounding of 200 weights would leave
        their sum off by a thousandth, which shows as noise in clean pictures.
        """
        weights = [self.head_weight[part] for part in parts]
        biases = [self.head_bias[part] for part in parts]
        weight = torch.cat([part - part.mean(0) for part in weights])
        bias = torch.cat([part - part.mean() for part in biases])
        return _projected(x, weight, bias)


def _projected(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`(batch, channels, height, width)` -> `(batch, len(weight), height * width)`, in float32."""
    batch, channels, height, width = x.shape
    with torch.autocast(x.device.type, enabled=False):
        cells = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        return torch.baddbmm(
            bias[:, None].expand(batch, -1, -1),
            weight.expand(batch, -1, -1),
            cells.float().transpose(1, 2),
        )


def grown(network: KPN, config: KPNConfig) -> KPN:
    """Return a network with the further parts of a shape, which do nothing yet.

    Those are the wide kernel, the mixing and the input of noise ratios.

    What the network has is left as it is; so is one that writes pixels.
    """
    old = network.config
    new = replace(
        old,
        wide=old.wide or config.wide,
        scales=max(old.scales, config.scales),
        noise_ratios=old.noise_ratios or config.noise_ratios,
    )
    if new == old:
        return network
    larger = KPN(new).to(memory_format=torch.channels_last)
    with torch.no_grad():
        before = network.state_dict()
        for name, value in larger.state_dict().items():
            if name not in before:
                continue  # zero from the start
            if before[name].shape != value.shape:
                value.zero_()
            value[tuple(slice(0, size) for size in before[name].shape)] = before[name]
    return larger
