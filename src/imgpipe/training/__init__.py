"""The training loop and its parts: gradients in a fixed tree, optimizers, schedules, initial weights."""
