"""Stages, memo store and engine: photographs and captions in, dataset versions out."""
