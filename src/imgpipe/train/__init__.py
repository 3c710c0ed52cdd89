"""The train stage: the training loop and what it consists of."""
