"""Figures of trained models, each with its interval and the floor it must beat."""
