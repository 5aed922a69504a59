"""The kernel prediction network: aligned frames and noise -> input features -> per-pixel
kernels -> clean planes, and the files of its weights.
"""
