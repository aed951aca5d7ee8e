"""How many CPU devices a command makes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unclip_jax.core import cpus

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("cores", "free", "needed", "count"),
    [(8, 1000, 10, 8), (8, 1000, 100, 5), (8, 1000, 600, 1), (1, 1000, 1, 1), (4, 0, 1, 1)],
)
def test_half_of_the_memory_holds_all_devices(cores, free, needed, count):
    assert cpus.devices_for(cores, free, needed) == count


def test_a_containers_limit_counts(tmp_path):
    host, limit, used = (tmp_path / name for name in ("meminfo", "max", "current"))
    host.write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    limit.write_text("max\n")
    used.write_text("100\n")
    assert cpus.free_bytes(host, (limit, used)) == 2048 << 10
    limit.write_text("1100\n")
    assert cpus.free_bytes(host, (limit, used)) == 1000
    assert cpus.free_bytes(tmp_path / "none", (limit, used)) == 1000
    assert cpus.free_bytes(tmp_path / "none", (limit, limit)) == 0


def test_the_users_number_stays():
    """This process chose eight, and has a backend besides."""
    assert cpus.use_core_devices(1, 1, 1) is None


def test_a_command_makes_a_device_a_core():
    code = (
        "from unclip_jax.core import cpus; import jax;"
        "cpus.os.sched_getaffinity = lambda pid: range(4);"
        "print(cpus.use_core_devices(1, 1, 1, total=1));"
        "print(cpus.use_core_devices(1, 1, 1, total=9));"
        "jax.config.update('jax_num_cpu_devices', -1);"
        "print(cpus.use_core_devices(1, 1, 1, total=3), len(jax.local_devices()));"
        "print(cpus.use_core_devices(1, 1, 1))"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    env |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["1", "None", "3", "3", "None"], done.stderr
