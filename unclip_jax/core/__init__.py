"""Foundations without a model in them: errors, shared structs, configs, random keys, trees."""
