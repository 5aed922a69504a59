"""The frames of a burst in, aligned to the reference: a shift for every tile, the agreement
of each frame with the reference, and which frames are dropped.
"""
