"""Diffusion on plain arrays: schedules, process, losses, denoisers and samplers."""
