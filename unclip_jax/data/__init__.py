"""Captioned image sets: building them, reading them, and feeding them to the trainer."""
