"""From logits to metrics, their intervals, and curves."""
