"""Training: one loop for every stage, over all devices, resumable to the bit."""
