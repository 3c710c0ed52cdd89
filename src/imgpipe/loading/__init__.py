"""From packed pictures to batches: crops, and threads that work ahead."""
