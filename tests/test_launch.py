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
    # A stage is given a CLIP only after it was exported.
    exported = [c[c.index("--out") + 1] for c in commands if c[1] == "export"]
    for path in re.findall(r"--config\.clip=(\S+)", result.stdout):
        assert path in exported
