"""Synthetic bursts -> weights: loss, training loop, checkpoints, log, validation."""
