"""The kernel prediction network: aligned frames and noise -> input features -> per-pixel kernels ->
clean planes, and its weight files.
"""
