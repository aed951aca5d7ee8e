"""The steps of a turn: a training that is stopped in time and exported, or another command."""

import dataclasses
import os
import shutil
import sys
import time

from tools.turns import clock, record
from tools.turns.plan import Step, fill
from tools.turns.state import Progress, rate_after
from tools.turns.turn import Turn, reason, reserve_for
from unclip_jax.core.errors import UserError

# Checkpoints by time, so that a crash costs two minutes; no grids of samples, which take time to
# compile. A plan's flags come later and win.
DEFAULTS = (
    "--config.train.tensorboard=False",
    "--config.train.sample_every=0",
    "--config.train.save_every=1000000000",
    "--config.train.save_seconds=120.0",
    "--config.train.keep_best=0",
    "--config.train.keep_latest=1",
)
UNCLIP = (sys.executable, "-m", "unclip_jax")


def work_on(turn: Turn, step: Step) -> Progress:
    """Works on a step and returns how far it is then."""
    start, last = time.monotonic(), turn.state.of(step)
    turn.say(f"{step.name}: begun, {turn.clock.until_stop(reserve_for(last)):.0f} s left")
    progress = train(turn, step, last) if step.is_training else other(turn, step, last)
    seconds = last.seconds + time.monotonic() - start
    return dataclasses.replace(progress, seconds=round(seconds, 1))


def train(turn: Turn, step: Step, last: Progress) -> Progress:
    """Trains a stage for the rest of its images or of the time, and exports it."""
    workdir, log, batch = turn.run_of(step), turn.log_of(step), batch_size(turn, step)
    command = train_command(turn, step, last)
    env, reserve = turn.environment(), reserve_for(last)
    code, saving = clock.run(command, log, turn.clock, env=env, reserve=reserve)
    closing = time.monotonic()
    has_steps = any(workdir.glob("checkpoints/[0-9]*"))
    is_fine = code == 0 or (saving and has_steps)  # stopped by us, at worst while it finished
    progress = dataclasses.replace(
        last,
        images_per_second=round(record.images_per_second(workdir), 1),
        device=record.device(workdir),
        metrics=record.last_metrics(workdir),
        error="" if is_fine else reason(log, code),
    )
    if has_steps:
        error = export(turn, step)
        steps = record.steps_of(turn.fresh(step), turn.job.settings[step.name].stage)
        progress = dataclasses.replace(progress, error=progress.error or error)
        if steps and not error:
            images = last.images + steps * batch
            if code != 0:  # what comes after the last step is missing: another step is to be made
                images = min(images, step.images - 1)
            turn.send(step)
            progress = dataclasses.replace(progress, images=images)
    elif saving:
        error = "stopped before its first step; give it a longer turn"
        progress = dataclasses.replace(progress, error=error)
    closing = saving + time.monotonic() - closing
    overhead = record.overhead_seconds(workdir) + closing
    return dataclasses.replace(
        progress, closing_seconds=round(closing, 1), overhead_seconds=round(overhead, 1)
    )


def batch_size(turn: Turn, step: Step) -> int:
    """Returns the batch size of a training."""
    return turn.job.settings[step.name].batch_size


def train_command(turn: Turn, step: Step, last: Progress) -> list[str]:
    """Returns the command that trains a stage further."""
    settings = turn.job.settings[step.name]
    left = step.images - last.images
    if step.images_per_turn:
        left = min(left, step.images_per_turn)
    command = [*UNCLIP, "train", "--config", step.config, "--workdir", str(turn.run_of(step))]
    command += [*DEFAULTS, *fill(step.flags, turn.places(step))]
    command.append(f"--config.train.steps={-(-left // settings.batch_size)}")
    if last.images:
        bundle = turn.result(step.name)
        if not (bundle / "bundle.json").is_file():
            raise UserError(f"the state has no bundle of {step.name}, which was begun; pack again")
        command.append(f"--config.init_from={bundle.resolve()}")
        if settings.is_cosine:
            rate = rate_after(settings.learning_rate, last.images, step.images)
            command.append(f"--config.optim.learning_rate={rate:.6g}")
    return command


def export(turn: Turn, step: Step) -> str:
    """Writes the bundle of a run; returns what went wrong, or an empty text."""
    command = [sys.executable, "-m", "tools.turns.bundles", str(turn.run_of(step))]
    command.append(str(turn.fresh(step)))
    if step.pca:
        command.append(str(turn.result(step.pca)))
    env = turn.environment() | {"JAX_PLATFORMS": "cpu"}
    log = turn.log_of(step)
    code, _ = clock.run(command, log, turn.clock, env=env, to_end=True)
    return "" if code == 0 else f"no bundle: {reason(log, code)}"


def other(turn: Turn, step: Step, last: Progress) -> Progress:
    """Runs another command and keeps its result."""
    log = turn.log_of(step)
    command = [*UNCLIP, *fill(step.command, turn.places(step))]
    code, _ = clock.run(command, log, turn.clock, env=turn.environment())
    found = turn.run_of(step) / step.result
    if code != 0 or not found.is_file():
        return dataclasses.replace(last, error=reason(log, code))
    turn.fresh(step).mkdir()
    shutil.copyfile(found, turn.fresh(step) / f"{step.result}.part")
    os.replace(turn.fresh(step) / f"{step.result}.part", turn.fresh(step) / step.result)
    turn.send(step)
    return dataclasses.replace(last, is_done=True, error="")
