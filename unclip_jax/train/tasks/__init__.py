"""One task per kind of training, such as CLIP's contrastive loss, diffusion, codes of z_i."""

import flax.linen as nn

from unclip_jax.models.clip import Clip
from unclip_jax.models.stages import StageSpec
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.task import Task
from unclip_jax.train.tasks.clip import make_clip_task
from unclip_jax.train.tasks.codes import make_code_task
from unclip_jax.train.tasks.diffusion import make_diffusion_task
from unclip_jax.train.tasks.distill import make_distill_task
from unclip_jax.train.tasks.dvae import make_dvae_task
from unclip_jax.train.tasks.tokens import make_token_task

__all__ = ["Task", "make_task"]

TASKS = {
    "codes": make_code_task,
    "diffusion": make_diffusion_task,
    "dvae": make_dvae_task,
    "tokens": make_token_task,
}
"""The makers of all tasks but CLIP's and that of few-step students."""


def make_task(
    spec: StageSpec, module: nn.Module, train_cfg: TrainConfig, clip: Clip | None
) -> Task:
    """Returns the task of a stage, by its row's `task`, or that of a few-step student of it.

    Args:
        clip: the frozen CLIP's module; None for a stage that needs none, and where batches bring
            all of its features.
    """
    if spec.row.task == "contrastive":
        return make_clip_task(module, train_cfg.sam_rho or None, train_cfg.sam_group)
    if train_cfg.is_student:
        return make_distill_task(spec, module, train_cfg, clip)
    return TASKS[spec.row.task](spec, module, train_cfg, clip)
