"""Configs for a data set of your own: small models that a workstation trains."""
