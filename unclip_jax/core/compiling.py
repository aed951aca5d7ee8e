"""Whether JAX compiles a program at the moment, for those who wait for it."""

import sys
from collections.abc import Callable
from typing import Any

# JAX says when it begins to trace, lower or compile a program, and when that has ended.
COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)


class Compiles:
    """Whether JAX is tracing or compiling, and for how long."""

    def __init__(self, clock: Callable[[], float]):
        """Hears nothing yet.

        Args:
            clock: gives seconds.
        """
        self._clock, self._depth, self._since = clock, 0, 0.0
        self._monitoring: Any = None

    def listen(self) -> None:
        """Starts to listen once JAX is imported; nothing can have compiled before that."""
        if self._monitoring is None and "jax" in sys.modules:
            from jax import monitoring

            self._monitoring = monitoring
            monitoring.register_scalar_listener(self._begun)
            monitoring.register_event_duration_secs_listener(self._ended)

    def forget(self) -> None:
        """Stops listening."""
        if self._monitoring is not None:
            self._monitoring.unregister_scalar_listener(self._begun)
            self._monitoring.unregister_event_duration_listener(self._ended)
            self._monitoring = None

    def seconds(self) -> float:
        """Returns how long the current compilation has taken so far; 0 if it is below a second."""
        spent = self._clock() - self._since
        return spent if self._depth > 0 and spent >= 1.0 else 0.0

    def _begun(self, event: str, value: float | int, **_: Any) -> None:
        if event in COMPILE_EVENTS:
            if self._depth == 0:
                self._since = self._clock()
            self._depth += 1

    def _ended(self, event: str, seconds: float | int, **_: Any) -> None:
        if event in COMPILE_EVENTS:
            self._depth = max(0, self._depth - 1)
