"""Puts a run together from its config: data, vocabulary, CLIP, network, state, loop; and runs it.

The only place that knows all the parts. A fresh workdir and one that holds a checkpoint go the same
way; the second then has its state, iterator and record put back to where the checkpoint stood.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from unclip_jax.checkpoint.pca_file import PCA_FILE, save_pca
from unclip_jax.checkpoint.prior_samples import load_prior_samples
from unclip_jax.checkpoint.records import newest_step
from unclip_jax.checkpoint.runs import params_digest
from unclip_jax.checkpoint.store import CheckpointStore, abstract_like
from unclip_jax.checkpoint.tensors import sha256
from unclip_jax.core.distributed import (
    broadcast_from_zero,
    is_process_zero,
    locked_by_zero,
    run_on_process_zero,
)
from unclip_jax.core.prng import INIT_STEP, root_key, stage_key
from unclip_jax.data.pipeline import open_source
from unclip_jax.data.sources import fingerprint
from unclip_jax.models.stages import (
    STAGES,
    StageSpec,
    abstract_boxed,
    abstract_params,
    clip_spec,
    init_variables,
    make_module,
    unboxed,
)
from unclip_jax.train import fitting, resolve, stored
from unclip_jax.train.batches import (
    DeviceBatches,
    HeldOutLoss,
)
from unclip_jax.train.environment import write_environment
from unclip_jax.train.feed import Feed
from unclip_jax.train.finish import (
    VARIANCE_TABLE,
    estimate_variance_table,
    write_variance_table,
)
from unclip_jax.train.frozen import FrozenClip, load_frozen_clip, params_of
from unclip_jax.train.init_from import init_from
from unclip_jax.train.loop import Hook, Loop, LoopParts, Progress, Stop
from unclip_jax.train.metrics import NoWriter, RunWriter, Writer
from unclip_jax.train.optim import make_optimizer
from unclip_jax.train.resolve import RANDOM, Settings
from unclip_jax.train.sharding import (
    check_batch_size,
    make_mesh,
    merge_rules,
    param_shardings,
    place,
    replicated,
    run_context,
    single_device_mesh,
)
from unclip_jax.train.state import TrainState, fresh_copy, init_state, make_state, state_shardings
from unclip_jax.train.step import Step, jit_step, make_eval_step, make_train_step
from unclip_jax.train.tasks.clip import Task
from unclip_jax.train.tasks.codes import make_task
from unclip_jax.train.tasks.diffusion import make_inputs
from unclip_jax.train.throughput import TracedSteps, peak_seconds


@dataclasses.dataclass(frozen=True)
class Run:
    """What hooks may look at.

    Attributes:
        clip: the frozen CLIP of a later stage, None for CLIP itself and the upsamplers.
        frozen: what the compiled step is given beside state and batch.
        held_out: batches of held-out data on the devices; empty without evaluation.
    """

    settings: Settings
    workdir: Path
    spec: StageSpec
    module: nn.Module
    task: Task
    mesh: Mesh
    clip: FrozenClip | None
    frozen: Any
    held_out: Sequence[Any]
    writer: Writer


HookMaker = Callable[[Run], Sequence[Hook]]


def train(
    config: Mapping[str, Any],
    workdir: Path,
    *,
    make_hooks: HookMaker = lambda run: (),
    make_progress: Callable[[int, int], Progress] | None = None,
    say: Callable[[str], None] = lambda text: None,
    profile: int = 0,
) -> bool:
    """Trains one stage in `workdir`, from where it stands; returns whether its end was reached.

    Args:
        config: the sections of a config file as plain mappings.
        make_progress: (steps done, steps in all) -> progress bar.
        say: is told the few things a person should know, a line each.
        profile: steps that a profiler's trace is written of, under workdir/profile.

    Every process of a job calls it with the same arguments and a workdir that all of them see; the
    first one alone says things and shows progress.
    """
    settings = resolve.read_settings(config)
    resolve.check_stores(settings)
    if not is_process_zero():
        make_progress, say = None, lambda text: None
    mesh, rules = make_mesh(settings.train.mesh), merge_rules(settings.train.sharding_rules)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop())
        stack.enter_context(locked_by_zero(Path(workdir), "unclip train"))
        stack.enter_context(run_context(mesh, settings.train.dtype, rules))
        builder = RunBuilder(config, settings, Path(workdir), mesh, say)
        return builder.train(make_hooks, make_progress, stop, profile)


class RunBuilder:
    """The parts of one run, in the order in which they need each other."""

    def __init__(
        self,
        config: Mapping[str, Any],
        settings: Settings,
        workdir: Path,
        mesh: Mesh,
        say: Callable[[str], None],
    ):
        """Loads data, vocabulary and CLIP, and settles what the config left open."""
        self.settings, self.workdir, self.mesh, self.say = settings, workdir, mesh, say
        self._needs_fitting = False
        self._rules = merge_rules(settings.train.sharding_rules)
        self.stores = stored.open_stores(settings)
        self.source = open_source(settings.data) if self.stores is None else None
        workdir.mkdir(parents=True, exist_ok=True)
        dtype = jnp.dtype(settings.train.dtype)
        self.clip, self.tokenizer = None, None
        is_fresh = newest_step(workdir / "checkpoints") is None
        is_clip = STAGES[settings.stage].kind == "clip"
        if is_clip or settings.clip == RANDOM:
            path = workdir / "tokenizer.json"
            context = config["model"]["text"]["context"] if is_clip else 16
            make = functools.partial(resolve.own_tokenizer, path, self.source, settings, context)
            run_on_process_zero(functools.partial(make, is_fresh=is_fresh))
            self.tokenizer = make(is_fresh=False)
        if settings.clip:
            with single_device_mesh():
                self.clip = load_frozen_clip(settings.clip, self.tokenizer, dtype, settings.pca)
            self.tokenizer = self.clip.tokenizer
        self._clip_digest = params_digest(self.clip.params) if self.clip is not None else ""
        if self.stores is not None:
            self.stores.check_clip(self._clip_digest)
            text_alone = params_of(self.clip.params, ("text",))
            self.clip = dataclasses.replace(self.clip, params=text_alone)
        self.samples, samples = None, settings.train.prior_samples
        if samples:
            self.samples = load_prior_samples(samples, self._clip_digest)
        vocab_size = self.tokenizer.vocab_size if self.tokenizer is not None else 0
        clip_cfg = None if self.clip is None else self.clip.cfg
        resolved = resolve.resolve_model(config, clip_cfg, vocab_size)
        self.spec = resolve.make_spec(resolved)
        self.module = make_module(self.spec, dtype)
        cut = self.stores and self.stores.describe_cut(self.spec.model.own_context)
        if cut:
            self.say(cut)
        self.task = make_task(self.spec, self.module, settings.train, self.clip)
        check_batch_size(settings.train.batch_size, mesh, "config.train.batch_size")
        if settings.eval.batches:
            check_batch_size(settings.eval.batch_size, mesh, "config.eval.batch_size")
        resolved["identity"] = self._identity()
        run_on_process_zero(lambda: self._write_config(resolved, is_fresh=is_fresh))

    def _write_config(self, resolved: Mapping[str, Any], *, is_fresh: bool) -> None:
        path = self.workdir / "config.json"
        resolve.write_or_check_config(path, resolved, is_fresh=is_fresh)
        write_environment(self.workdir / "environment.json", self.say)

    def _identity(self) -> dict[str, Any]:
        """Returns what paths do not tell: which parameters the CLIP had, and which data it was."""
        digest = self._clip_digest
        if self.settings.clip in ("", RANDOM):
            digest = None
        if self.stores is None:
            data = self.settings.data
            identity = {"clip": digest, "data": fingerprint(data.name)}
            identity |= {"mix": [fingerprint(name) for name in data.mix]} if data.mix else {}
            samples = self.settings.train.prior_samples
            return identity | ({"prior_samples": sha256(Path(samples))} if samples else {})
        data = self.stores.train.meta.data.get("fingerprint")
        return {"clip": digest, "data": data, "embeddings": self.stores.identity()}

    def train(
        self,
        make_hooks: HookMaker,
        make_progress: Callable[[int, int], Progress] | None,
        stop: Stop,
        profile: int = 0,
    ) -> bool:
        """Builds the rest and runs the loop to its end or a stop."""
        cfg = self.settings.train
        with contextlib.ExitStack() as stack:
            store = CheckpointStore(
                self.workdir / "checkpoints",
                keep_latest=cfg.keep_latest,
                keep_best=cfg.keep_best,
                say=self.say,
            )
            stack.enter_context(contextlib.closing(store))
            state, shardings, data_state = self._state(store)
            first = int(state.step)
            feed = self._feed()
            data = feed.batches()
            if data_state is not None:
                data.set_state(data_state)
            frozen = self._frozen()
            if self._needs_fitting:
                state = self._fitted(state, frozen, data)
            held_out = feed.held_out()
            writer = stack.enter_context(contextlib.closing(self._writer(first)))
            run = self._run(frozen, held_out, writer)
            step = self._step(frozen, shardings)
            if profile:
                step = TracedSteps(step, self.workdir / "profile", profile)
                stack.enter_context(contextlib.closing(step))
            parts = LoopParts(
                step=step,
                data=data,
                store=store,
                writer=writer,
                metric_names=(*self.task.metric_names, "grad_norm"),
                evaluate=self._evaluate(held_out, frozen),
                hooks=make_hooks(run),
                progress=make_progress(first, cfg.steps) if make_progress else None,
                peak_seconds=lambda state, batch: peak_seconds(
                    self._make_step, self.spec, (state, frozen, batch), jax.devices()
                ),
            )
            state, done = Loop(cfg, self.settings.eval.every, parts).run(state, stop)
            if done:
                self._finish(run, state)
        return done

    def _run(self, frozen: Any, held_out: list[Any], writer: Writer) -> Run:
        return Run(
            self.settings,
            self.workdir,
            self.spec,
            self.module,
            self.task,
            self.mesh,
            self.clip,
            frozen,
            held_out,
            writer,
        )

    def _make_step(self, spec: StageSpec) -> Step:
        settings = self.settings
        tx = self._tx(abstract_params(spec))
        task = make_task(
            spec, make_module(spec, jnp.dtype(settings.train.dtype)), settings.train, self.clip
        )
        return make_train_step(task, tx, settings.train, settings.optim, settings.seed)

    def _step(self, frozen: Any, shardings: Any) -> Callable[..., Any]:
        """Returns the compiled step (state, batch) -> (state, logged)."""
        compiled = jit_step(self._make_step(self.spec), shardings, self.mesh)
        return lambda state, batch: compiled(state, frozen, batch)

    def _writer(self, step: int) -> Writer:
        if not is_process_zero():
            return NoWriter()
        tensorboard = self.settings.train.tensorboard
        return RunWriter(self.workdir, step, tensorboard=tensorboard, say=self.say)

    def _fitted(self, state: TrainState, frozen: Any, data: DeviceBatches) -> TrainState:
        """Puts what is fitted to training examples into fresh parameters; see fitting.py."""
        start, spec, clip = data.get_state(), self.spec, self.clip
        count = max(1, fitting.EXAMPLES // self.settings.train.batch_size)
        image_emb, text_emb = fitting.embeddings(clip, frozen, data, count, self.mesh)
        data.set_state(start)
        pca = None
        if spec.model.embedding_codec is not None:
            pca = clip.pca or fitting.pca_of(image_emb, self._clip_digest)
            self.say(fitting.describe(pca, spec.model.embedding_codec.components))
            if self.settings.clip != RANDOM and jax.process_index() == 0:
                save_pca(self.workdir / PCA_FILE, pca)
        params = fitting.with_fitted(state.params, spec, image_emb, text_emb, pca)
        return state.replace(params=params, ema_params=fresh_copy(params))

    def _tx(self, params: Any) -> Any:
        steps = self.settings.train.steps
        return make_optimizer(self.settings.optim, params, self.spec.fitted_names, steps)

    def _state(self, store: CheckpointStore) -> tuple[TrainState, Any, dict[str, Any] | None]:
        """Restores the newest whole checkpoint, or starts a fresh state."""
        boxed = abstract_boxed(self.spec)
        tx, count = self._tx(unboxed(boxed)), len(self.task.metric_names) + 1
        shardings = state_shardings(boxed, tx, count, self.mesh, self._rules)
        abstract = jax.eval_shape(lambda p: make_state(p, tx, count), unboxed(boxed))
        restored = store.restore_newest(abstract_like(abstract, shardings))
        if restored is not None:
            latest, state, data = restored
            self.say(f"resuming from step {latest}")
            return state, shardings, data
        key = stage_key(root_key(self.settings.seed), self.spec.row.key_id)
        key = jax.random.fold_in(key, INIT_STEP)
        init = functools.partial(init_variables, self.spec, self.module, key)
        state = init_state(init, tx, count, shardings)
        self._needs_fitting = bool(self.spec.fitted_names)
        if self.settings.init_from:
            state, report = init_from(state, self.settings.init_from, self.spec.stage)
            self.say(str(report))
            # Weights taken over go with the space they were trained in.
            self._needs_fitting &= not self.spec.fitted_names <= set(report.matched)
        return state, shardings, None

    def _feed(self) -> Feed:
        return Feed(
            self.settings,
            self.spec,
            self.task,
            self.source,
            self.stores,
            self.samples,
            self.clip,
            self.tokenizer,
            self.mesh,
            self.say,
        )

    def _evaluate(self, held_out: list[Any], frozen: Any) -> HeldOutLoss | None:
        if not held_out:
            return None
        cfg = self.settings.eval
        step = make_eval_step(self.task, cfg.batch_size, self.settings.seed)
        step = jax.jit(step, out_shardings=replicated(self.mesh))
        return HeldOutLoss(step, held_out, frozen, self.task.metric_names)

    def _frozen(self) -> Any:
        """Returns the constants of the step, on the mesh: the empty caption, CLIP's parameters."""
        if self.clip is None:
            return {}
        with single_device_mesh():
            empty = self.clip.empty_caption()
        own = self.spec.model.own_context
        if own is not None:
            empty = empty.replace(tokens=jnp.asarray(self.tokenizer.encode([""], own).tokens))
        encoders = resolve.encoders(self.settings, self.spec)
        if "text" not in encoders and not self.spec.model.reads_clip_states:
            empty = empty.replace(text_states=None)  # as in the batches, for nobody reads them
        frozen = {"empty": place(empty, replicated(self.mesh))}
        if encoders:
            boxed = params_of(abstract_boxed(clip_spec(self.clip.cfg)), encoders)
            frozen["clip"] = place(self.clip.params, param_shardings(boxed, self.mesh, self._rules))
        return frozen

    def _finish(self, run: Run, state: TrainState) -> None:
        """Writes the analytic variance's table, if the stage samples with one."""
        cfg = self.settings.eval
        diffusion = self.spec.diffusion
        if diffusion is None or diffusion.variance != "analytic" or not run.held_out:
            return
        if broadcast_from_zero((self.workdir / VARIANCE_TABLE).exists()):
            return
        self.say("estimating the analytic variance on held-out data")
        inputs, _ = make_inputs(self.spec, self.settings.train, self.clip)
        table = estimate_variance_table(
            self.spec,
            self.module,
            inputs,
            state.ema_params,
            run.frozen,
            run.held_out,
            seed=self.settings.seed,
            passes=cfg.variance_passes,
        )
        run_on_process_zero(lambda: write_variance_table(self.workdir, table))
