"""Configs for a set of your own: small models that a workstation trains."""
