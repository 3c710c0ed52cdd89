"""From splits to memory-mapped arrays, and these read."""
