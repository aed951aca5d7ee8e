"""One CPU device a core, for commands that map a network over many images.

XLA's own threads leave much of a second core idle on small networks; a device a core, each with its
share of the images, does not. It has to be chosen before the backend starts, so commands choose it,
and importing the package never does.
"""

import contextlib
import os
from pathlib import Path

import jax

PIXEL_BYTES = 4096  # of activations a pixel of a network's images: about a thousand float32 values
GROUP_BYTES = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
HOST_BYTES = Path("/proc/meminfo")


def use_core_devices(
    params_bytes: int, images: int, size: int, *, total: int | None = None
) -> int | None:
    """Makes as many CPU devices as cores, where half of the free memory holds all that they need.

    No more than there are images: a device without one would repeat another's.

    A number that the user chose (JAX_NUM_CPU_DEVICES) stays, and so does that of a backend that has
    already started. Accelerators are not affected.

    Args:
        params_bytes: parameters, of which each device has a copy.
        images: that a device makes at once, of `size` x `size` pixels.
        total: images of all devices; None where there are many, or nobody knows.

    Returns:
        The number of devices; None where it was not for this function to choose.
    """
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen or jax.config.jax_num_cpu_devices != -1:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = devices_for(
        min(cores or 1, total or cores or 1),
        free_bytes(),
        params_bytes + images * size**2 * PIXEL_BYTES,
    )
    with contextlib.suppress(RuntimeError):  # the backend has started
        jax.config.update("jax_num_cpu_devices", count)
        return count
    return None


def devices_for(cores: int, free: int, needed: int) -> int:
    """Returns how many devices to make, from 1 to `cores`.

    Args:
        free: bytes of memory, of which half may be used.
        needed: bytes of a device.
    """
    return max(1, min(cores, free // 2 // max(needed, 1)))


def free_bytes(host: Path = HOST_BYTES, group: tuple[Path, Path] = GROUP_BYTES) -> int:
    """Returns the memory that this process may still take; the machine's where nothing tells.

    Args:
        host: the kernel's table of memory.
        group: the limit and the use of the control group, such as a container's.
    """
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = [line.split() for line in host.read_text().splitlines()]
        found = next(int(words[1]) << 10 for words in lines if words[0] == "MemAvailable:")
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int(path.read_text()) for path in group)  # "max" is no limit
        found = min(found, max(limit - used, 0))
    return found
