"""From captions to images with a bundle: the stages, the whole chain, and its devices."""
