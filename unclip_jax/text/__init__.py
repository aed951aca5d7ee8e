"""Text to tokens: CLIP's byte-pair encoding, loaded or trained."""
