"""The plot stage: figures and the report."""
