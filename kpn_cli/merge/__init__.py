"""The whole picture: the network is run tile by tile, its result is guarded against ghosts,
the greens are equilibrated, and the residual noise is measured.
"""
