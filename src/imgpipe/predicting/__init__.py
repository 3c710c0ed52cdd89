"""What ``imgpipe predict`` consists of."""
