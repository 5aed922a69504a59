"""Ordinary photos -> noisy bursts with ground truth: motion, sensor noise, training patches,
data sets, the evaluation protocol and the demo.
"""
