"""The work of ``imgpipe gpu-check``: a check asks parts, which run in processes of their own, and judges."""
