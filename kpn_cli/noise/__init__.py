"""The noise model of a burst: estimated from the frames, or read from a calibration file or a DNG's
NoiseProfile and checked against the frames.
"""
