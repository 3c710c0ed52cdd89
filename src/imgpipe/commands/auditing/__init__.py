"""What ``imgpipe audit`` does: from predictions of images that were not trained on to doubtful labels and slices."""
