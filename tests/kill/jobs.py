"""The commands that are killed: their arguments, and their results as comparable values."""

import dataclasses
import functools
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # also where results are read
ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".cache" / "kill"
SHAPES = "shapes:size=16,count=600"
# Of JSON: members that are a time; of the pages for people: seconds; of both: dates.
TIMES = re.compile(
    r'"(\w*seconds)": ?([\d.e+-]+|{[^}]*})|seconds: [\d.]+|[\d.]+ s\b'
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d.:+]*"
)
PROMPTS = ["a red heart", "the sun", "a dog face", "a cat face", "a green apple", "a blue car"]


def environment(**changes: str) -> dict[str, str]:
    """One device, the tests' compile cache."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    env.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
    env |= {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    return env | changes


@dataclasses.dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        args: of `unclip`, given the folder to write.
        result: what the folder holds, as one value to compare.
    """

    name: str
    args: Callable[[Path], list[Any]]
    result: Callable[[Path], Any]

    def start(self, out: Path, errors: Any = subprocess.PIPE, **env: str) -> subprocess.Popen:
        """Starts it in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "unclip_jax", *map(str, self.args(out))],
            env=environment(**env),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )

    def run(self, out: Path, **env: str) -> subprocess.CompletedProcess:
        """Runs it to its end."""
        process = self.start(out, **env)
        said, errors = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, said, errors)


def check(done: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    """Returns a run that ended well and said nothing that looks like a crash."""
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-800:]}"
    assert "Traceback" not in done.stderr, done.stderr[-800:]
    return done


def train_args(stage: str, out: Path) -> list[Any]:
    """Returns a smoke training of 60 steps with many saves."""
    flags = {"train.steps": 60, "train.save_every": 5, "train.sample_every": 0}
    if stage in ("clip", "prior_ar", "upsampler_256"):
        flags["train.steps"] = 100
    config = ["--config", ROOT / "configs" / "emoji" / f"{stage}.py:smoke", "--workdir", out]
    return ["train", *config, *(f"--config.{key}={value}" for key, value in flags.items())]


def trained(out: Path) -> dict[str, Any]:
    """Reads a finished run: its record, its last state to the bit, its config and tables."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    step = max(int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdigit())
    path = out / "checkpoints" / str(step) / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(path).item_metadata.tree
        whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=whole))
    found: dict[str, Any] = {
        jax.tree_util.keystr(key): hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
        for key, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    for name in ("metrics.jsonl", "config.json", "variance_table.npy", "tokenizer.json"):
        if (out / name).exists():
            found[name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    return found | {"step": step}


def files(out: Path, *, but: str = "$^") -> dict[str, Any]:
    """Reads a folder: JSON and text without times, dates and its own path; else hashes."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = path.relative_to(out).as_posix()
        if re.search(but, name):
            continue
        data = path.read_bytes()
        if path.suffix in (".json", ".md"):
            text = data.decode().replace(str(out), "OUT")
            found[name] = TIMES.sub("", text)
        else:
            found[name] = hashlib.sha256(data).hexdigest()
    return found


def store(out: Path) -> dict[str, Any]:
    """Reads a store of embeddings, its PCA and its draws."""
    from unclip_jax.data import embeddings

    meta = embeddings.read_meta(out)
    records = [
        (r.key, r.image_emb.tobytes(), r.text_emb.tobytes(), r.tokens.tobytes())
        for shard in range(meta.shards)
        for r in embeddings.read_shard(out, shard, meta)
    ]
    found = files(out, but=r"array_record$")
    return found | {"records": hashlib.sha256(repr(records).encode()).hexdigest()}


def captioned(out: Path) -> dict[str, Any]:
    """Reads a data set: its examples in order, as a record's own bytes have them in any order."""
    import numpy as np

    from unclip_jax.data.sources import load_source, split_sizes

    found = files(out, but="array_record")
    for split, size in split_sizes(str(out)).items():
        source = load_source(str(out), split)
        assert len(source) == size
        hashed = hashlib.sha256()
        for example in (source[i] for i in range(size)):
            for name, value in sorted(example.items()):
                data = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
                hashed.update(name.encode() + data)
        found[split] = size, hashed.hexdigest()
    return found


@functools.cache
def prepared() -> Path:
    """Makes what the commands read, once: a toy bundle, pictures, prompts, a finished run."""
    done = WORK / "prepared"
    if (done / "ready").exists():
        return done
    import numpy as np
    from PIL import Image

    from tests.toy import toy_bundle
    from unclip_jax.checkpoint import bundle

    done.mkdir(parents=True, exist_ok=True)
    bundle.save(toy_bundle(), done / "toy", dtype="float16", overwrite=True)
    (done / "prompts.txt").write_text("\n".join(PROMPTS * 4))
    (done / "pictures").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(400):
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(done / "pictures" / f"{index:03d}.png")
        (done / "pictures" / f"{index:03d}.txt").write_text(f"picture number {index}")
    check(Job("clip", functools.partial(train_args, "clip"), trained).run(done / "clip_run"))
    (done / "ready").write_text("")
    return done


def embed_args(out: Path) -> list[Any]:
    """A store of 20 shards, its PCA and draws of the prior."""
    args = ["embed", "--bundle", prepared() / "toy", "--data", SHAPES, "--shard-size", 30]
    return [*args, "--fit-pca", "--prior-draws", 1, "--out", out]


def ingest_args(out: Path) -> list[Any]:
    """A folder of pictures with captions."""
    return ["data", "ingest", prepared() / "pictures", "--out", out, "--overwrite"]


def eval_args(out: Path) -> list[Any]:
    """Retrieval on procedural pictures."""
    args = ["eval", "--model", prepared() / "toy", "--data", SHAPES, "--split", "test"]
    return [*args, "--suite", "retrieval", "--limit", 200, "--out", out, "--overwrite"]


def export_args(out: Path) -> list[Any]:
    """A finished run to a bundle."""
    return ["export", prepared() / "clip_run", "--name", "killed", "--out", out, "--overwrite"]


def sample_args(out: Path) -> list[Any]:
    """Bulk sampling of 24 prompts."""
    args = ["sample", "--prompts", prepared() / "prompts.txt", "--model", prepared() / "toy"]
    return [*args, "--num", 2, "--out", out]


STAGES = ("clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256")
JOBS = [
    *(Job(stage, functools.partial(train_args, stage), trained) for stage in STAGES),
    Job("embed", embed_args, store),
    Job("ingest", ingest_args, captioned),
    Job("eval", eval_args, functools.partial(files, but="png$")),
    Job("export", export_args, files),
    Job("sample", sample_args, files),
]
