"""What ``imgpipe compare`` consists of."""
