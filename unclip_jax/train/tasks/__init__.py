"""One loss per stage: CLIP, diffusion, and PCA codes."""
