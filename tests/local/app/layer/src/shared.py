"""Proves that the layer is on the path."""

LAYER = "the layer"
