"""Networks, the classifier around one, and what it predicts."""
