"""The launch scripts print what they would run."""

import os
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from unclip_jax.cli.train import train

ROOT = Path(__file__).parent.parent


def test_emoji_trains_every_stage_and_exports_what_it_trained():
    script = ROOT / "launch" / "emoji.sh"
    result = subprocess.run(
        [script, "--dry-run"],
        env={"UNCLIP": "unclip", "RUNS": "r", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    commands = [shlex.split(line) for line in result.stdout.splitlines()]
    trained = [c[c.index("--workdir") + 1] for c in commands if c[1] == "train"]
    configs = re.findall(r"--config (configs/[a-z0-9_/]+\.py)", result.stdout)
    assert all((ROOT / path).is_file() for path in configs)
    assert {Path(path).stem for path in configs} == {
        "clip",
        "decoder",
        "prior_ar",
        "prior_diffusion",
        "upsampler_256",
    }
    final = [c for c in commands if c[1] == "export"][-1]
    runs = final[2 : min(final.index(word) for word in final if word.startswith("--"))]
    assert len(runs) == 5
    assert set(runs) <= set(trained)
    # The card holds what the suites wrote.
    value = lambda c, option: c[c.index(option) + 1]  # noqa: E731
    evals = [c for c in commands if c[1] == "eval"]
    written = [f"{value(c, '--out')}/{value(c, '--suite')}.json" for c in evals]
    held = [final[i + 1] for i, word in enumerate(final) if word == "--metrics"]
    assert sorted(held) == sorted(written) and len(held) == 4
    assert (ROOT / value(final, "--notes")).is_file()
    assert {"r/prior_tuned", "r/decoder_tuned"} <= set(runs)
    # A stage is given a CLIP only after it was exported.
    exported = [c[c.index("--out") + 1] for c in commands if c[1] == "export"]
    for path in re.findall(r"--config\.(?:clip|init_from)=(\S+)", result.stdout):
        assert path in exported


def printed(script, *args, **variables):
    """Returns the commands of a dry run, each as its words."""
    result = subprocess.run(
        [ROOT / "launch" / script, "--dry-run", *args],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert result.stderr == ""
    return [shlex.split(line) for line in result.stdout.splitlines()], result.stdout


CLOUD = {"PROJECT": "p", "ZONE": "z", "NAME": "n", "BUCKET": "b"}
TRAIN = ("--config", "configs/emoji/decoder.py:smoke", "--config.data.name=a b")


def options_are_known(words):
    """Whether `unclip train` takes the options that a launcher gives it."""
    known = {option for parameter in train.params for option in parameter.opts}
    given = {word for word in words if word.startswith("--") and not word.startswith("--config.")}
    return given <= known


def test_local_starts_a_job_of_n_processes():
    commands, _ = printed("local.sh", "3", "train", *TRAIN, UNCLIP="unclip", PORT="1234")
    assert len(commands) == 3
    for number, words in enumerate(commands):
        job = ["--coordinator", "127.0.0.1:1234", "--num-processes", "3", "--process-id"]
        assert words == ["unclip", "train", *TRAIN, *job, str(number)]
        assert options_are_known(words)


def test_slurm_trains_on_every_gpu_and_queues_itself_again():
    commands, text = printed("slurm.sh", *TRAIN, WORKDIR="/shared/w", NODES="2", UNCLIP="unclip")
    assert commands[0] == ["mkdir", "-p", "/shared/w"]
    submit = commands[1]
    assert submit[0] == "sbatch"
    assert {"--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--requeue"} <= set(submit)
    assert "--signal=TERM@300" in submit
    step = shlex.split(re.search(r"^output=\$\((.*)\)$", text, re.M)[1])
    assert step == ["srun", "--kill-on-bad-exit=1", "--cpus-per-task=8", "unclip", "train",
                    "--workdir", "/shared/w", *TRAIN]  # fmt: skip
    assert options_are_known(step[3:])
    assert 'scontrol requeue "$SLURM_JOB_ID"' in text
    body = text[text.index("#!") : text.rindex("EOF")]
    assert subprocess.run(["bash", "-n"], input=body, text=True, check=False).returncode == 0


def test_a_tpu_pod_is_asked_for_and_trains_on_all_its_hosts():
    variables = {"PROJECT": "p", "ZONE": "z", "NAME": "n", "BUCKET": "b", "TYPE": "v5p-64"}
    create, _ = printed("tpu_pod.sh", "create", **variables)
    assert create[0][:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "n"]
    assert {"--accelerator-type=v5p-64", "--node-id=n", "--spot"} <= set(create[0])
    install, _ = printed("tpu_pod.sh", "install", **variables)
    assert all("--worker=all" in words for words in install[1:])
    assert "make -C unclip_jax install ACCEL=tpu" in install[2][-1]
    assert shell("-n", "-c", install[2][-1].removeprefix("--command=")).returncode == 0
    start, _ = printed("tpu_pod.sh", "train", *TRAIN, **variables)
    assert {"--worker=all", "--project=p", "--zone=z"} <= set(start[0])
    command = shlex.split(start[0][-1].partition(" && ")[2])
    assert command[:3] == ["UNCLIP_DATA=/mnt/b/data", ".venv/bin/unclip", "train"]
    assert command[3:] == ["--coordinator", "auto", "--workdir", "/mnt/b/runs/n", *TRAIN]
    assert options_are_known(command[2:])
    stop, _ = printed("tpu_pod.sh", "stop", **variables)
    assert "--worker=0" in stop[0] and "pkill -TERM -f '[u]nclip train'" in stop[0][-1]
    delete, _ = printed("tpu_pod.sh", "delete", **variables)
    assert delete[0][4:6] == ["delete", "n"]


def shell(*words, **variables):
    return subprocess.run(
        ["/bin/bash", *words], env=variables, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("lacking", [("python3", "gcsfuse"), ("gcsfuse",), ()])
def test_a_host_gets_the_python_and_the_gcsfuse_that_it_lacks(lacking, tmp_path):
    """With stand-ins: an old Python fails the check, sudo and curl say what they do."""
    install, _ = printed("tpu_pod.sh", "install", **CLOUD, GCSFUSE="2.9.1")
    for name in ("python3", "python3.11", "sudo", "curl", "gcsfuse"):
        is_old = name.startswith("python3") and "python3" in lacking
        text = "exit 1" if is_old else f'echo {name} "$@"' if name in ("sudo", "curl") else ""
        if name not in lacking or is_old:
            (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
            (tmp_path / name).chmod(0o755)
    prepare, rest, _ = (
        install[2][-1].removeprefix("--command=").partition(" && mkdir -p unclip_jax")
    )
    done = shell("-ec", prepare, PATH=str(tmp_path))
    assert rest and done.returncode == 0
    says = done.stdout
    assert ("install python3.11 python3.11-venv" in says) == ("python3" in lacking)
    assert ("v2.9.1/gcsfuse_2.9.1_amd64.deb" in says) == ("gcsfuse" in lacking)
    assert ("install /tmp/gcsfuse.deb" in says) == ("gcsfuse" in lacking)


def test_gke_trains_through_xpk():
    variables = {"PROJECT": "p", "ZONE": "z", "CLUSTER": "c", "BUCKET": "b", "SLICES": "2"}
    create, _ = printed("gke.sh", "create", **variables)
    assert [words[:3] for words in create] == [
        ["xpk", "cluster", "create"],
        ["xpk", "storage", "attach"],
    ]
    start, _ = printed("gke.sh", "train", *TRAIN, **variables)
    assert start[0][:3] == ["xpk", "workload", "create"]
    assert {"--num-slices=2", "--storage=b", "--max-restarts=50"} <= set(start[0])
    command = shlex.split(start[0][-1].rpartition("exec ")[2])
    assert command[2:] == ["--coordinator", "auto", "--workdir", "/mnt/b/runs/unclip", *TRAIN]
    assert options_are_known(command[2:])
    for action, verb in (("stop", "workload"), ("delete", "cluster")):
        words, _ = printed("gke.sh", action, **variables)
        assert words[0][:3] == ["xpk", verb, "delete"]


@pytest.mark.parametrize("word", [(), ("train",)])
@pytest.mark.parametrize("flag", [("--workdir", "/shared/mine"), ("--workdir=/shared/mine",)])
@pytest.mark.parametrize("script", ["slurm.sh", "tpu_pod.sh", "gke.sh"])
def test_a_workdir_that_is_given_is_the_one_and_train_may_be_said(script, flag, word):
    first = word if script == "slurm.sh" else ("train", *word)
    _, text = printed(script, *first, *TRAIN, *flag, **CLOUD, UNCLIP="unclip")
    words = shlex.split(text.replace("\\", ""))
    assert [words[i + 1] for i, word in enumerate(words) if word == "--workdir"] == ["/shared/mine"]
    after = words[words.index("--workdir") + 2 :]
    assert "train" not in after and f"--config {TRAIN[1]}" in " ".join(after)
    assert "/mnt/b/runs" not in text and "runs/unclip" not in text


@pytest.mark.parametrize("script", ["tpu_pod.sh", "gke.sh"])
@pytest.mark.parametrize("missing", ["PROJECT", "BUCKET"])
def test_no_cloud_project_and_no_bucket_is_made_up(script, missing):
    variables = {key: value for key, value in CLOUD.items() if key != missing}
    result = subprocess.run(
        [ROOT / "launch" / script, "--dry-run", "create"],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert f"set {missing}" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "call", [("local.sh",), ("local.sh", "two", "train"), ("tpu_pod.sh", "x"), ("gke.sh",)]
)
def test_a_call_that_means_nothing_prints_how_to_call(call):
    script = ROOT / "launch" / call[0]
    result = subprocess.run([script, *call[1:]], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stderr.startswith("usage: ")


@pytest.fixture
def stand_in(tmp_path):
    """A command that does what its second word says, by the number of the process."""
    path = tmp_path / "unclip"
    path.write_text(
        "#!/usr/bin/env bash\n"
        'number="${@: -1}"\n'
        "if [[ $1 == die ]]; then ((number)) && kill -KILL $$; exec sleep 60; fi\n"
        "sleep 60 &\n"
        "trap 'kill $!; echo saved $number; exit 0' TERM\n"
        "echo started; wait\n"
    )
    path.chmod(0o755)
    return {**os.environ, "UNCLIP": str(path)}


def test_local_ends_all_when_one_is_killed(stand_in):
    start = time.monotonic()
    result = subprocess.run(
        [ROOT / "launch" / "local.sh", "3", "die"],
        env=stand_in,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert time.monotonic() - start < 30  # the others would have slept for longer
    assert result.returncode == 137
    last = result.stderr.splitlines()[-1]
    assert re.match(r"launch/local.sh: process [12] of 3 ended with exit code 137, so", last)


def test_local_passes_sigterm_on_to_all(stand_in):
    command = [ROOT / "launch" / "local.sh", "2", "wait"]
    with subprocess.Popen(command, env=stand_in, stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["started\n"] * 2
        process.terminate()
        out, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    assert sorted(out.splitlines()) == ["saved 0", "saved 1"]
