"""Defective samples of the sensor: finds and repairs them in a burst before its alignment."""
