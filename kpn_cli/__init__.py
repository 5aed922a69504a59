"""kpn: one clean raw photo from a burst of noisy ones, with a Kernel Prediction Network."""

__version__ = "0.1.0"
