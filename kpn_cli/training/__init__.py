"""Synthetic bursts -> weights: the loss, the training loop, checkpoints, the log and
validation.
"""
