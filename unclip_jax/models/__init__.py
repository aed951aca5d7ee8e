"""The networks of unCLIP: CLIP, the diffusion prior, the decoder and the upsamplers."""
