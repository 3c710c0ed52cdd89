"""Bytes and pixels: archives, downloads, image files, packed splits, and work shared out among processes."""
