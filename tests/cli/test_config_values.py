"""Values with which nothing can be trained: one line that names the key, exit code 2."""

from pathlib import Path

import pytest

from unclip_jax.cli.main import main

ROOT = Path(__file__).resolve().parents[2]

VALUES = [
    ("clip", "model.vision.heads=0", "heads=0"),
    ("clip", "model.vision.width=0", "width=0"),
    ("clip", "model.text.width=0", "width=0"),
    ("clip", "model.vision.patch_size=0", "patch_size=0"),
    ("clip", "model.vision.mlp_ratio=inf", "mlp_ratio=inf"),
    ("clip", "model.text.mlp_ratio=nan", "mlp_ratio=nan"),
    ("clip", "model.text.layers=-1", "layers=-1"),
    ("clip", "model.vision.dropout=nan", "dropout=nan"),
    ("clip", "model.embed_dim=0", "embed_dim=0"),
    ("clip", "train.batch_size[1]=3", "batch_size"),
    ("clip", "train.sam_rho=inf", "sam_rho=inf"),
    ("clip", "optim.learning_rate=inf", "learning_rate=inf"),
    ("clip", "data.threads=-1", "threads=-1"),
    ("clip", "data.zoom=nan", "zoom=nan"),
    ("upsampler_256", "sampling.guidance=nan", "guidance=nan"),
    ("upsampler_256", "sampling.x0_bound=nan", "x0_bound=nan"),
    ("upsampler_256", "sampling.eta=nan", "eta=nan"),
    ("upsampler_256", "diffusion.num_steps=2000000000", "num_steps=2000000000"),
    ("upsampler_256", "diffusion.min_snr_gamma=nan", "min_snr_gamma=nan"),
    ("upsampler_256", "model.unet.dropout=nan", "dropout=nan"),
    ("upsampler_256", "model.unet.channels=0", "channels=0"),
    ("upsampler_256", "model.unet.channel_mult=(1,0)", "channel_mult=(1, 0)"),
    ("upsampler_256", "model.unet.res_blocks=-1", "res_blocks=-1"),
    ("upsampler_256", "model.unet.norm_groups=0", "norm_groups=0"),
    ("upsampler_256", "model.unet.in_channels=3", "unet.in_channels=3"),
    ("upsampler_256", "model.unet.out_channels=6", "model.unet.out_channels=6"),
    ("upsampler_256", "model.low_res_size=0", "low_res_size=0"),
    ("prior_ar", "model.positions=8", "positions=8"),
    ("prior_ar", "model.codec.limit=nan", "limit=nan"),
    ("prior_ar", "sampling.temperature=nan", "temperature=nan"),
    ("prior_ar", "model.image_dim=-4", "image_dim=-4"),
    ("prior_diffusion", "embedding_norm.scale=nan", "scale=nan"),
    ("prior_diffusion", "sampling.num_candidates=10000000000", "num_candidates=10000000000"),
]


@pytest.mark.parametrize(("stage", "flag", "words"), VALUES, ids=[flag for _, flag, _ in VALUES])
def test_a_value_out_of_range_is_one_line_with_its_name(stage, flag, words, capsys):
    config = str(ROOT / "configs" / "paper" / f"{stage}.py")
    with pytest.raises(SystemExit) as stop:
        main(["plan", "--config", config, f"--config.{flag}"])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == "" and "Traceback" not in err
    line = err.splitlines()[-1]  # before it may stand what the command is about to do
    assert line.startswith("unclip: error: ")
    assert all(word in line for word in words.split("="))
    assert "self." not in line
