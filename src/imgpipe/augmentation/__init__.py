"""What changes a picture in training, as a function of its row of random numbers."""
