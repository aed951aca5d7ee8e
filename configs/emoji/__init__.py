"""The emoji family: small models on real captioned drawings, the shipped default."""
