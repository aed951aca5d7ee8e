"""Set-up of every test process: eight virtual CPU devices, strict broadcasting, a compile cache."""

import os
from pathlib import Path

# The tests are of the CPU: a visible accelerator must not change what they check.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "jax"

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# A cold cache only costs time; the suite must pass without it.
jax.config.update(
    "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(CACHE))
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
