"""Metrics of trained models, each with a confidence interval and a baseline where there is one."""
