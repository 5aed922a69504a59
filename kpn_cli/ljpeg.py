"""Lossless JPEG of 16-bit samples, the compression that every reader of DNGs knows.

ITU-T T.81 (JPEG), process 14: each sample is predicted, and of the difference its
number of bits is Huffman coded and the bits follow. Of the seven predictors only the
first, the sample to the left, is taken by all readers (RawSpeed knows no other), and
for a mosaic it needs two interleaved components, so that left is the same colour: this
is how Adobe's converter does it. The libraries at hand write other predictors only.
"""

from __future__ import annotations

import heapq
import struct

import numpy as np

#: Differences count modulo 2^16; this one has 16 bits, which are not written (T.81, H.1.2.2).
_HALF = 1 << 15

#: No symbol is taken to be rarer than this: no code then exceeds JPEG's 16 bits (a code of
#: d bits needs frequencies that grow like Fibonacci's numbers: d = 15 takes 1597).
_RAREST = 1 / 1000

_UNUSED = -1  # a place in the code that no symbol may have: all ones


def _bit_lengths() -> np.ndarray:
    """Number of bits of each 16-bit difference, 0-16, indexed by the difference modulo 2^16."""
    steps = np.arange(1 << 16)
    size = np.where(steps <= _HALF, steps, (1 << 16) - steps)
    return np.ceil(np.log2(size + 1)).astype(np.uint8)


_BITS = _bit_lengths()


def encode(mosaic: np.ndarray) -> bytes:
    """Return the lossless JPEG of a mosaic: two components, predictor 1, 16 bits.

    Args:
        mosaic: `(height, width)` uint16, width even, each side below 65536.

    Returns:
        A JPEG of `width / 2` columns whose components are the mosaic's even and odd columns.
    """
    height, width = mosaic.shape
    steps = _differences(mosaic)
    counts = np.bincount(_BITS[steps], minlength=17)
    lengths = _code_lengths({bits: int(n) for bits, n in enumerate(counts) if n})
    head = (
        b"\xff\xd8"
        + _segment(0xC4, b"\0" + _code_table(lengths))
        + _segment(0xC3, struct.pack(">BHHB6B", 16, height, width // 2, 2, 0, 17, 0, 1, 17, 0))
        + _segment(0xDA, bytes((2, 0, 0, 1, 0, 1, 0, 0)))  # predictor 1
    )
    return head + _entropy_coded(steps, lengths) + b"\xff\xd9"


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _differences(mosaic: np.ndarray) -> np.ndarray:
    """Samples minus predictions, modulo 2^16, in the order of writing.

    The first sample is predicted as 2^15, the rest of the first column from above (H.1.2.1).
    """
    steps = mosaic.copy()
    steps[:, 2:] -= mosaic[:, :-2]
    steps[1:, :2] -= mosaic[:-1, :2]
    steps[0, :2] -= np.uint16(_HALF)
    return steps.ravel()


def _code_lengths(counts: dict[int, int]) -> dict[int, int]:
    """Return symbol -> length of its Huffman code, and that of the place left unused."""
    least = _RAREST * sum(counts.values())
    ranked = [*sorted(counts, key=lambda symbol: (-counts[symbol], symbol)), _UNUSED]
    weights = [max(counts.get(symbol, 0), least) for symbol in ranked]
    heap = [(weight, rank, (rank,)) for rank, weight in enumerate(weights)]
    depths = [0] * len(ranked)
    heapq.heapify(heap)
    while len(heap) > 1:
        (light, _, some), (heavy, order, others) = heapq.heappop(heap), heapq.heappop(heap)
        for rank in some + others:
            depths[rank] += 1
        heapq.heappush(heap, (light + heavy, order, some + others))
    # Sorted anew, since of equal weights any may have got the longer code.
    return dict(zip(ranked, sorted(depths), strict=True))


def _code_table(lengths: dict[int, int]) -> bytes:
    """The body of a DHT segment: how many codes of 1-16 bits, and their symbols (B.2.4.2)."""
    symbols = [symbol for symbol in lengths if symbol != _UNUSED]
    used = [lengths[symbol] for symbol in symbols]
    return bytes(used.count(n) for n in range(1, 17)) + bytes(symbols)


def _entropy_coded(steps: np.ndarray, lengths: dict[int, int]) -> bytes:
    """Each difference's code and bits, one after the other; 0xFF stuffed (F.1.2.3)."""
    values, sizes = _codebook(lengths)
    size = sizes[steps]
    ends = np.cumsum(size, dtype=np.int64)
    starts = ends - size
    # A code and its bits are at most 32 long, so they touch two words of 32 at most. No two
    # share a bit: a sum joins them, exactly, since floats hold 53 bits.
    shifted = values[steps] << (64 - (starts & 31) - size).astype(np.uint64)
    word = starts >> 5
    total = int(ends[-1])
    count = (total >> 5) + 2
    words = np.bincount(word, (shifted >> np.uint64(32)).astype(np.float64), count)
    words += np.bincount(word + 1, (shifted & np.uint64(0xFFFFFFFF)).astype(np.float64), count)
    data = bytearray(words.astype(">u4").tobytes()[: -(-total // 8)])
    if total % 8:
        data[-1] |= (1 << -total % 8) - 1  # the last byte is filled with ones
    return bytes(data).replace(b"\xff", b"\xff\0")


def _codebook(lengths: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return what to write for each difference modulo 2^16: code and bits, and their number."""
    codes = np.zeros(17, np.uint64)
    sizes = np.zeros(17, np.int64)
    code = previous = 0
    for symbol, length in lengths.items():  # shortest first: the code that T.81, annex C, means
        code <<= length - previous
        if symbol != _UNUSED:
            codes[symbol], sizes[symbol] = code, length
        code, previous = code + 1, length
    # What follows the code: the difference if above 0, else one less, in so many bits (H.1.2.2).
    extra = np.where(_BITS == 16, 0, _BITS).astype(np.uint64)
    steps = np.arange(1 << 16, dtype=np.uint64)
    bits = np.where(steps < _HALF, steps, steps - np.uint64(1))
    bits &= (np.uint64(1) << extra) - np.uint64(1)
    return (codes[_BITS] << extra) | bits, sizes[_BITS] + extra.astype(np.int64)
