"""kpn: one clean raw photo from a burst of noisy ones, with a Kernel Prediction Network.

The folders follow the data. Each imports only from those before it:

    system      the machine: atomic files and locks, devices, memory, several processes
    image       arrays of a Bayer mosaic: planes, noise model, sRGB, filters, tiles
    tiff        the TIFF container: tags and directories, read and written
    raw         a camera's file -> its mosaic, levels, exposure and tags
    burst       files -> bursts: finding, grouping, choosing the reference frame
    align       frames -> shifts onto the reference, and how well they fit
    noise       how noisy the frames are: profile, calibration file or estimate
    network     the kernel prediction network: features, kernels, their use, weights
    merge       aligned frames -> the whole clean picture, tile by tile
    output      clean planes -> DNG, TIFF, JPEG
    pipeline    one burst from files to outputs
    batch       many bursts: plan, overlapped reading and writing, HTML report
    inspection  `kpn inspect`: what the network does with a burst, as figures
    synthesis   photos -> synthetic noisy bursts with their ground truth
    evaluation  PSNR and SSIM against baselines, and stress scenes
    training    bursts -> weights: loss, loop, checkpoints, validation
    cli         the `kpn` command: parses options, calls the above, prints

`errors.py` and `choices.py` lie below all of them.
"""

__version__ = "0.1.0"
