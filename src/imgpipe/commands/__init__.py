"""The commands of ``imgpipe``, one a file, and what they consist of."""
