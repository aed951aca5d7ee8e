"""The launch scripts print what they would run."""

import re
import shlex
import subprocess
from pathlib import Path

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
        "prior_diffusion",
        "upsampler_256",
    }
    last = commands[-1]
    assert last[:2] == ["unclip", "export"]
    runs = last[2 : last.index("--out")]
    assert len(runs) == 4
    assert set(runs) <= set(trained)
    # A stage is given a CLIP only after it was exported.
    exported = [c[c.index("--out") + 1] for c in commands if c[1] == "export"]
    for path in re.findall(r"--config\.clip=(\S+)", result.stdout):
        assert path in exported
