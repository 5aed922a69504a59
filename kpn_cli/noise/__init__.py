"""How noisy a burst is: estimated from the frames, read from a calibration file or a DNG's
NoiseProfile, checked against the frames. A `NoiseModel` comes out.
"""
