"""Ordinary photos -> noisy bursts with their ground truth: motion, sensor noise, training
patches, data sets, the evaluation protocol and the demo.
"""
