"""What ``imgpipe compare`` does: from sets of runs to verdicts, as text and as a picture."""
