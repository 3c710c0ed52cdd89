"""What training, evaluation and prediction share: networks, what they see of an image, devices, random numbers."""
