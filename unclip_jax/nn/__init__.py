"""Network building blocks in flax.linen: layers, attention, transformers, U-Net blocks."""
