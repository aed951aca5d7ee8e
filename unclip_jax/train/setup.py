"""Sets up a training run from its config: data, tokenizer, CLIP, network, state, batches, record.

`set_up` is the order of it. A fresh workdir and one with a checkpoint are set up alike; the second
then has its state, data iterator and record put back to where the checkpoint was saved.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from clu.parameter_overview import get_parameter_overview
from jax.sharding import Mesh

from unclip_jax.checkpoint.pca_file import PCA_FILE, save_pca
from unclip_jax.checkpoint.prior_samples import PriorSamples, load_prior_samples
from unclip_jax.checkpoint.records import newest_step
from unclip_jax.checkpoint.store import CheckpointStore, abstract_like
from unclip_jax.checkpoint.tensors import sha256
from unclip_jax.core.distributed import is_process_zero, run_on_process_zero
from unclip_jax.core.files import whole_file
from unclip_jax.core.types import Params
from unclip_jax.data.pipeline import open_source
from unclip_jax.data.sources import Source, fingerprint
from unclip_jax.models.stages import STAGES
from unclip_jax.text.tokenizer import Tokenizer
from unclip_jax.train import fitting, resolve
from unclip_jax.train.distill import TEACHER, load_teacher
from unclip_jax.train.environment import write_environment
from unclip_jax.train.frozen_clip import FrozenClip, load_frozen_clip, params_of
from unclip_jax.train.frozen_stage import FrozenStage, load_frozen_stage
from unclip_jax.train.init_from import check_init_from, init_from
from unclip_jax.train.inputs import DeviceBatches, RunInputs
from unclip_jax.train.metrics import Log, NullWriter, RunWriter, Writer
from unclip_jax.train.program import Program, make_program
from unclip_jax.train.resolve import RANDOM, Settings
from unclip_jax.train.sharding import check_batch_size, place, replicated, single_device_mesh
from unclip_jax.train.state import TrainState, fresh_copy
from unclip_jax.train.stores import Stores, open_stores
from unclip_jax.train.task import Batch, StepConstants

RANDOM_CONTEXT = 16  # of the untrained CLIP's captions


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready for its loop; hooks are made of it.

    Attributes:
        clip: the frozen CLIP of a later stage, None for CLIP itself and the upsamplers.
        state: where training starts; the first step takes its buffers over.
        batches: training batches, at the position that belongs to `state`.
        constants: what the compiled step is given in addition to state and batch.
        held_out: batches of held-out data on the devices; empty without evaluation.
    """

    program: Program
    workdir: Path
    mesh: Mesh
    clip: FrozenClip | None
    store: CheckpointStore
    state: TrainState
    batches: DeviceBatches
    constants: StepConstants
    held_out: Sequence[Batch]
    writer: Writer


@dataclasses.dataclass(frozen=True)
class Start:
    """The state that training starts with.

    Attributes:
        data: position of the data iterator; None is the first batch.
        needs_fitting: whether statistics or a codec have yet to be fitted to training examples.
    """

    state: TrainState
    data: dict[str, Any] | None = None
    needs_fitting: bool = False


def set_up(
    config: Mapping[str, Any],
    settings: Settings,
    workdir: Path,
    mesh: Mesh,
    *,
    log: Log,
    stack: contextlib.ExitStack,
) -> Run:
    """Sets up the run of a config in a workdir.

    Args:
        settings: of `config`.
        log: gets a line about what a person should know.
        stack: closes what the run has open.
    """
    stores = open_stores(settings)
    source = open_source(settings.data) if stores is None else None
    is_fresh = newest_step(workdir / "checkpoints") is None
    if is_fresh and settings.init_from:
        check_init_from(settings.init_from, settings.stage)
    workdir.mkdir(parents=True, exist_ok=True)

    tokenizer = own_tokenizer(config, settings, workdir, source, is_fresh=is_fresh)
    clip = load_clip(settings, tokenizer, stores)
    tokenizer = tokenizer if clip is None else clip.tokenizer
    samples = load_samples(settings, clip)

    resolved = resolve_config(config, clip, tokenizer)
    program = make_program(settings, resolve.make_spec(resolved), clip and clip.cfg)
    check_against(program, stores, mesh, log)
    frozen = load_frozen(program)
    resolved["identity"] = identity(settings, clip, stores) | frozen_identity(program, frozen)
    write_config(workdir, resolved, is_fresh=is_fresh, log=log)

    store = stack.enter_context(open_checkpoints(settings, workdir, log))
    start = restore_or_init(program, store, mesh, log)
    inputs = RunInputs(program, source, stores, samples, clip, tokenizer, mesh, log)
    batches = inputs.training_batches()
    if start.data is not None:
        batches.set_state(start.data)
    constants = make_constants(program, clip, tokenizer, mesh, frozen)
    state = start.state
    if start.needs_fitting:
        state = fit(program, clip, state, constants, batches, workdir, mesh, log)
    write_overview(workdir, state.params)
    return Run(
        program=program,
        workdir=workdir,
        mesh=mesh,
        clip=clip,
        store=store,
        state=state,
        batches=batches,
        constants=constants,
        held_out=inputs.held_out_batches(),
        writer=stack.enter_context(open_writer(settings, workdir, int(state.step), log)),
    )


def own_tokenizer(
    config: Mapping[str, Any],
    settings: Settings,
    workdir: Path,
    source: Source | None,
    *,
    is_fresh: bool,
) -> Tokenizer | None:
    """Returns the tokenizer of a CLIP, or of a stage with an untrained one; process 0 trains it."""
    is_clip = STAGES[settings.stage].kind == "clip"
    if not is_clip and settings.clip != RANDOM:
        return None
    context = config["model"]["text"]["context"] if is_clip else RANDOM_CONTEXT
    path = workdir / "tokenizer.json"
    load = functools.partial(resolve.own_tokenizer, path, source, settings, context)
    run_on_process_zero(functools.partial(load, is_fresh=is_fresh))
    return load(is_fresh=False)


def load_clip(
    settings: Settings, tokenizer: Tokenizer | None, stores: Stores | None
) -> FrozenClip | None:
    """Loads the frozen CLIP that the config names, which must be that of the stores.

    Args:
        tokenizer: of an untrained CLIP.
    """
    if not settings.clip:
        return None
    dtype = jnp.dtype(settings.train.dtype)
    with single_device_mesh():
        clip = load_frozen_clip(settings.clip, tokenizer, dtype, settings.pca)
    if stores is None:
        return clip
    stores.check_clip(clip.digest)
    return dataclasses.replace(clip, params=params_of(clip.params, ("text",)))


def load_frozen(program: Program) -> FrozenStage | None:
    """Loads the other stage that this one is trained on, or a student's teacher; None without."""
    spec, settings = program.frozen, program.settings
    if spec is None:
        return None
    with single_device_mesh():
        if settings.train.is_student:
            return load_teacher(spec, settings.init_from, settings.train.distill)
        return load_frozen_stage(spec, settings.frozen)


def load_samples(settings: Settings, clip: FrozenClip | None) -> PriorSamples | None:
    """Loads the prior's samples that the config names, which must be of the run's CLIP."""
    path = settings.train.prior_samples
    return load_prior_samples(path, clip.digest) if path else None


def resolve_config(
    config: Mapping[str, Any], clip: FrozenClip | None, tokenizer: Tokenizer | None
) -> dict[str, Any]:
    """Returns the config with the sizes that it leaves open."""
    vocab_size = 0 if tokenizer is None else tokenizer.vocab_size
    return resolve.resolve_model(config, clip and clip.cfg, vocab_size)


def check_against(program: Program, stores: Stores | None, mesh: Mesh, log: Log) -> None:
    """Checks the settings against the devices; logs what the stores lack, and an untrained CLIP."""
    cut = stores and stores.describe_cut(program.spec.model.own_context)
    if cut:
        log(cut)
    settings = program.settings
    if settings.clip == RANDOM:
        log("config.clip=random: the CLIP is untrained, which is for trying the stage out")
    check_batch_size(settings.train.batch_size, mesh, "config.train.batch_size")
    if settings.eval.batches:
        check_batch_size(settings.eval.batch_size, mesh, "config.eval.batch_size")


def identity(settings: Settings, clip: FrozenClip | None, stores: Stores | None) -> dict[str, Any]:
    """Returns what paths alone do not tell: digests of the CLIP's parameters and of the data."""
    digest = None if settings.clip in ("", RANDOM) else clip.digest
    if stores is not None:
        data = stores.train.meta.data.get("fingerprint")
        return {"clip": digest, "data": data, "embeddings": stores.identity()}
    data, samples = settings.data, settings.train.prior_samples
    values: dict[str, Any] = {"clip": digest, "data": fingerprint(data.name)}
    if data.mix:
        values["mix"] = [fingerprint(name) for name in data.mix]
    if samples:
        values["prior_samples"] = sha256(Path(samples))
    return values


def frozen_identity(program: Program, frozen: FrozenStage | None) -> dict[str, Any]:
    """Returns the digest of the other stage that a run is trained on, by that stage's name."""
    if frozen is None or program.settings.frozen == RANDOM:
        return {}
    return {TEACHER if program.settings.train.is_student else program.spec.row.reads: frozen.digest}


def write_config(workdir: Path, resolved: Mapping[str, Any], *, is_fresh: bool, log: Log) -> None:
    """Writes config.json, or checks the config against it; notes this start's environment."""

    def write() -> None:
        resolve.write_or_check_config(workdir / "config.json", resolved, is_fresh=is_fresh)
        write_environment(workdir / "environment.json", log)

    run_on_process_zero(write)


def write_overview(workdir: Path, params: Params) -> None:
    """Writes parameters.txt: names, shapes, sizes and shardings of the parameters."""

    def write() -> None:
        overview = get_parameter_overview(params, include_stats="sharding")
        with whole_file(workdir / "parameters.txt") as part:
            part.write_text(overview + "\n", encoding="utf-8")

    run_on_process_zero(write)


def open_checkpoints(
    settings: Settings, workdir: Path, log: Log
) -> contextlib.closing[CheckpointStore]:
    """Opens the checkpoints of the run."""
    cfg = settings.train
    store = CheckpointStore(
        workdir / "checkpoints", keep_latest=cfg.keep_latest, keep_best=cfg.keep_best, say=log
    )
    return contextlib.closing(store)


def open_writer(
    settings: Settings, workdir: Path, step: int, log: Log
) -> contextlib.closing[Writer]:
    """Opens the record at a step, on process 0."""
    if not is_process_zero():
        return contextlib.closing(NullWriter())
    tensorboard = settings.train.tensorboard
    return contextlib.closing(RunWriter(workdir, step, tensorboard=tensorboard, log=log))


def restore_or_init(program: Program, store: CheckpointStore, mesh: Mesh, log: Log) -> Start:
    """Restores the newest whole checkpoint; without one initializes a state, sharded from birth."""
    shardings = program.state_shardings(mesh)
    restored = store.restore_newest(abstract_like(program.state, shardings))
    if restored is not None:
        step, state, data = restored
        log(f"resuming from step {step}")
        return Start(state, data)
    settings, spec = program.settings, program.spec
    state = program.jit_init(shardings)()
    if not settings.init_from:
        return Start(state, needs_fitting=bool(spec.fitted_names))
    state, report = init_from(state, settings.init_from, spec.stage)
    log(str(report))
    # Weights that are taken over belong to the space that they were trained in.
    return Start(state, needs_fitting=not spec.fitted_names <= set(report.matched))


def make_constants(
    program: Program,
    clip: FrozenClip | None,
    tokenizer: Tokenizer | None,
    mesh: Mesh,
    frozen: FrozenStage | None = None,
) -> StepConstants:
    """Returns the step's constants, on the mesh: empty caption, parameters of the frozen stages."""
    shardings, params, other = program.constant_shardings(mesh), None, None
    if frozen is not None:
        other = place(frozen.params, shardings.frozen)
    if clip is None:
        return StepConstants(frozen=other)
    model, encoders = program.spec.model, program.encoders
    with single_device_mesh():
        empty = clip.empty_caption()
    if model.own_context is not None:
        tokens = tokenizer.encode([""], model.own_context).tokens
        empty = empty.replace(tokens=jnp.asarray(tokens))
    if "text" not in encoders and not model.reads_clip_states:
        empty = empty.replace(text_states=None)  # as in the batches: nothing reads them
    if encoders:
        params = place(clip.params, shardings.clip)
    return StepConstants(clip=params, empty=place(empty, replicated(mesh)), frozen=other)


def fit(
    program: Program,
    clip: FrozenClip,
    state: TrainState,
    constants: StepConstants,
    batches: DeviceBatches,
    workdir: Path,
    mesh: Mesh,
    log: Log,
) -> TrainState:
    """Fits statistics or a codec to the first training examples; the batches start over."""
    settings, spec = program.settings, program.spec
    position = batches.get_state()
    count = max(1, fitting.EXAMPLES // settings.train.batch_size)
    image_emb, text_emb = fitting.collect_embeddings(program.clip, constants, batches, count, mesh)
    batches.set_state(position)
    pca, codec = None, spec.model.embedding_codec
    if codec is not None:
        pca = clip.pca or fitting.pca_of(image_emb, clip.digest)
        log(fitting.describe_pca(pca, codec.components))
        if settings.clip != RANDOM and is_process_zero():
            save_pca(workdir / PCA_FILE, pca)
    params = fitting.with_fitted(state.params, spec, image_emb, text_emb, pca)
    return state.replace(params=params, ema_params=fresh_copy(params))
