"""The allowed values of options and some defaults, as plain values without imports.

The command line and the library share them, and `kpn --help` needs no numpy.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Devices and arithmetic of the network.
DEVICES = ("auto", "cpu", "cuda", "mps")
#: Training has no integers.
FLOAT_PRECISIONS = ("auto", "fp32", "bf16")
PRECISIONS = (*FLOAT_PRECISIONS, "int8")

#: Whether defective samples are looked for.
DEFECTS = ("auto", "off")
#: Which exposures the frames of a burst may have: one, but for automatic exposure; or any.
EXPOSURES = ("same", "mixed")

#: Names of outputs without their endings, as `pipeline/names.py` fills them in.
DEFAULT_NAME = "{reference}_kpn"
#: Output format -> what is appended to its name.
FORMATS = {"dng": ".dng", "linear": "_linear.tif", "srgb": "_srgb.tif", "jpeg": ".jpg"}
#: Other names of output formats, as photographers call them -> the formats.
FORMAT_ALIASES = {
    "jpg": ("jpeg",),
    "tif": ("linear", "srgb"),
    "tiff": ("linear", "srgb"),
}


def formats_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return output formats by their names or other names, in any case, each once.

    An unknown name is returned as it is.
    """
    known = {**{name: (name,) for name in FORMATS}, **FORMAT_ALIASES}
    found = (known.get(name.lower(), (name,)) for name in names)
    return tuple(dict.fromkeys(form for forms in found for form in forms))


#: XMP sidecar beside a DNG -> what is appended to its name: as Adobe's programs name them, and as
#: darktable does.
SIDECARS = {"xmp": ".xmp", "dng_xmp": ".dng.xmp"}
DEFAULT_FORMATS = ("dng", "linear", "srgb")
#: Compression of the DNG's mosaic; the first is the default.
COMPRESSIONS = ("lossless", "none")

#: Largest factor by which `--strength` may scale the noise sigma that the network assumes.
MAX_STRENGTH = 4
#: Quality of a JPEG (libjpeg's), and the least long side that it may be reduced to, pixels.
JPEG_QUALITY, MIN_JPEG_SIZE = 95, 16
#: Least side of a part that `--crop` shows, pixels.
MIN_CROP = 16
#: Smallest tile side, sensor pixels.
MIN_TILE = 64
#: Longest pause within a burst, from the end of an exposure to the start of the next, seconds.
DEFAULT_GAP = 1.0

#: Gains of the evaluation protocol, as text; `synthesis.protocol.GAINS` defines them.
GAINS = ("0", "1", "2", "4", "8")
#: The gain of a data set with a random camera and ISO for each burst.
RANDOM_GAIN = "random"
DATASET_GAINS = (*GAINS, RANDOM_GAIN)
DATASET_FORMATS = ("dng", "shards")

#: The last two are classical denoisers of the reference frame; they take seconds per burst.
BASELINES = ("reference", "mean", "aligned-mean", "nlm", "wavelets")
USUAL_BASELINES = BASELINES[:3]

#: Schedules of the learning rate.
SCHEDULES = ("cosine", "constant")
#: The network, and its ablations in the KPN paper (Mildenhall et al. 2018, section 5.2 and
#: table 1): direct pixel prediction; single frame; no annealing; no noise estimate.
VARIANTS = ("kpn", "direct", "single", "noanneal", "blind")

#: How a user merges a bracket, in messages.
MERGE_BRACKETS = "add --exposures mixed to merge them"
