"""Training in several processes: one's losses, and every way in which one of them may go.

Two processes of one device compute exactly what one process of two does: the same program with the
same partition, and a sum of two is the same in either order. Over four devices the order of a sum
is the collective's own; losses then agree to the rounding of float32.
"""

import json
import random
import signal
import time

import jax
import numpy as np
import pytest

from tests.hosts import Job

pytestmark = pytest.mark.hosts

SUM_ORDER = 1e-4  # relative; what float32 sums in another order come to after a few Adam steps
STEPS = 120
# Also: the paper's own caption path, features looked up, the analytic variance's table at the end.
PRIOR = ["train", "--config", "configs/emoji/prior_diffusion.py:smoke"]
PRIOR += [f"--config.train.steps={STEPS}", "--config.train.save_every=10"]
# Also: CLIP within the step, statistics of the data, sample grids, parameters split over processes.
DECODER = ["train", "--config", "configs/emoji/decoder.py:smoke"]
DECODER += ["--config.train.steps=4", "--config.train.cache_clip=False"]
DECODER += ["--config.embedding_norm.kind=standardize", "--config.eval.every=4"]
DECODER += ["--config.train.mesh.data=1", "--config.train.mesh.fsdp=2"]
DECODER += ["--config.train.mesh.tensor=2", "--config.model.unet.channels=8"]
DECODER += ["--config.model.unet.channel_mult=(1,)", "--config.model.unet.head_channels=8"]
DECODER += ["--config.model.unet.norm_groups=4"]


def run(folder, args, **options):
    """Runs a job to its end, which must be a good one."""
    log = folder.with_suffix(f".{time.monotonic_ns()}.log")
    with Job(log, [*args, "--workdir", folder], **options) as job:
        code, out = job.end()
        assert code == 0, job.told()
        return out


def record(folder):
    return (folder / "metrics.jsonl").read_text()


def arrays(folder, step):
    """The arrays of a checkpoint by name, whatever devices they were saved from."""
    import orbax.checkpoint as ocp

    path = (folder / "checkpoints" / str(step) / "state").absolute()
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(path).item_metadata.tree
        whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=whole))
    return {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(state)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One process, two devices, never interrupted."""
    folder = tmp_path_factory.mktemp("one") / "run"
    assert run(folder, PRIOR, devices=2).endswith(": finished\n")
    return folder


def test_a_job_that_is_preempted_and_killed_trains_as_one_process(whole, tmp_path):
    """Two processes twice, then one: the record and the parameters to the bit.

    `make kill-test` also stops a process, and runs four of them.
    """
    folder = tmp_path / "run"
    args = [*PRIOR, "--workdir", folder]
    log = iter(tmp_path / f"{n}.log" for n in range(9))
    victim = random.Random(time.time_ns()).randrange(2)

    with Job(next(log), args, processes=2) as job:
        job.wait_for(" loss ")
        job.signal(1, signal.SIGTERM)  # one host is told; all save, and end in good order
        code, out = job.end()
        assert (code, out) == (0, f"{folder}: stopped; run again to resume\n"), job.told()
    saved = max(int(path.name) for path in (folder / "checkpoints").iterdir())
    assert json.loads(record(folder).splitlines()[-1])["step"] <= saved < STEPS
    assert record(whole).startswith(record(folder))

    with Job(next(log), args, processes=2) as job:
        job.wait_for(" loss ")
        assert f"resuming from step {saved}\n" in job.told()
        job.signal(victim, signal.SIGKILL)
        start = time.monotonic()
        code, out = job.end()
        assert time.monotonic() - start < 60
        assert code != 0 and out == "", (victim, job.told())
        last = job.told().splitlines()[-1]
        assert last.startswith("launch/local.sh: process ") and "137" in last, last
        assert "run the same command again" in last

    assert run(folder, PRIOR, devices=2).endswith(": finished\n")  # another topology
    assert record(folder) == record(whole)
    for name in ("variance_table.npy", "tokenizer.json", "config.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    ours, theirs = arrays(folder, STEPS), arrays(whole, STEPS)
    assert ours.keys() == theirs.keys() and len(ours) > 50
    for path, array in theirs.items():
        np.testing.assert_array_equal(ours[path], array, err_msg=path)
    started = json.loads((folder / "environment.json").read_text())
    assert [start["processes"] for start in started] == [2, 2, 1]  # one line a start


def test_four_processes_that_share_the_parameters_train_as_one(tmp_path):
    one, four = tmp_path / "one", tmp_path / "four"
    run(one, DECODER, devices=4)
    run(four, DECODER, processes=4)
    ours, theirs = (
        [json.loads(line) for line in record(folder).splitlines()] for folder in (four, one)
    )
    assert len(theirs) == 3
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        np.testing.assert_allclose(
            list(mine.values()), list(other.values()), rtol=SUM_ORDER, atol=1e-6
        )
    assert (four / "samples" / "00000004.png").is_file()
