"""The evaluate stage: from logits to metrics, their intervals, and curves."""
