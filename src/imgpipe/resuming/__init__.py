"""Checkpoints, and taking a training up where it was left."""
