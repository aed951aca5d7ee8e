"""Whole jobs above the libraries: export, embedding, StableHLO, training samples, model cards."""
