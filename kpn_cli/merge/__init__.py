"""Merging: aligned frames -> the whole clean picture, tile by tile. Checks of the result against
the reference, strength, green equilibration and the residual noise belong here.
"""
