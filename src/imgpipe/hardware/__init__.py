"""Devices, processes, and how a run uses them."""
