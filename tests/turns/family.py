"""The plan of a small family: a CLIP in two turns, a prior that no turn finishes, a failure."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIP, PRIOR = "configs/emoji/clip.py:smoke", "configs/emoji/prior_diffusion.py:smoke"
FAMILY = {
    "name": "smoke",
    "data": "tiny",
    "stages": [
        {
            "name": "clip",
            "config": CLIP,
            "flags": ["--config.data.name=tiny"],
            "images": 80,
            "images_per_turn": 40,
        },
        {
            "name": "prior",
            "config": PRIOR,
            "flags": ["--config.clip={clip}", "--config.data.name=tiny"],
            "images": 8_000_000,
            "needs": ["clip"],
        },
        {
            "name": "failing",
            "config": CLIP,
            "flags": ["--config.data.name=tiny", "--config.data.split=missing"],
            "images": 40,
        },
    ],
}
