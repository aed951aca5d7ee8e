"""Other people's weights: CLIP and Karlo layouts in, diffusers folders out; nothing is executed."""
