"""Run configurations, one folder a family; in the wheel they are `unclip_jax.configs`."""
