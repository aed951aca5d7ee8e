"""Trains a family's stages in short turns on a machine without a network; see docs/turns.md.

What runs there before its packages are unpacked imports the standard library and core/ only.
"""
