"""Alignment of a burst to its reference: a shift for every tile, the robustness of each frame,
and which frames are dropped.
"""
