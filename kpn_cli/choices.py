"""What options may be, and some of what they are by default: plain values, without imports.

The command line and the library both take them from here, and `kpn --help` needs no numpy.
"""

from __future__ import annotations

#: Where the network runs, and in which arithmetic.
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")

#: Format of an output -> what follows the reference's name in the output's.
FORMATS = {
    "dng": "_kpn.dng",
    "linear": "_kpn_linear.tif",
    "srgb": "_kpn_srgb.tif",
    "jpeg": "_kpn.jpg",
}
DEFAULT_FORMATS = ("dng", "linear", "srgb")
#: Of the DNG's mosaic; the first is the default.
COMPRESSIONS = ("lossless", "none")

#: Largest factor of the noise sigma that the network sees.
MAX_STRENGTH = 4
#: Smallest side of a tile, in sensor pixels.
MIN_TILE = 64
#: Seconds between the end of an exposure and the start of the next, at most, in a burst.
DEFAULT_GAP = 1.0

#: Gains of the evaluation protocol, as text; `protocol.GAINS` says what they stand for.
GAINS = ("0", "1", "2", "4", "8")
#: Of a data set: any camera at any ISO, rather than a gain of the protocol.
RANDOM_GAIN = "random"
DATASET_GAINS = (*GAINS, RANDOM_GAIN)
DATASET_FORMATS = ("dng", "shards")

#: The last two are classical denoisers of the reference frame; they take seconds a burst.
BASELINES = ("reference", "mean", "aligned-mean", "nlm", "wavelets")
USUAL_BASELINES = BASELINES[:3]

#: Of the learning rate.
SCHEDULES = ("cosine", "constant")
#: The network and the paper's ablations of it (section 5.2 and table 1 there): pixels
#: straight from the network; one frame; no annealing; no noise estimate.
VARIANTS = ("kpn", "direct", "single", "noanneal", "blind")
