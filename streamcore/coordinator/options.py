"""What is asked of a run beside its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamcore.control.web import Address
from streamcore.coordinator.reload import Reloading
from streamcore.coordinator.service_manager import ServiceManager
from streamcore.supervisor.interpreter import COMMAND
from streamcore.telemetry.otel import Asked


@dataclass
class Options:
    """What is asked of a run beside its plan.

    for_s: end it after so long, counted from when all nodes are ready. shm_limit: `limits.shm` of the spec, in bytes.
    reloading: watch what the plan was made of, and follow its changes. timeline: the report is to have one. http: where the run can be
    looked at, if at all. otel: where its traces are exported to, if anywhere.
    """

    spec_file: str = ""
    for_s: float | None = None
    shm_limit: int | None = None
    debug: bool = False
    command: Sequence[str] = field(default=COMMAND)
    reloading: Reloading | None = None
    timeline: bool = False
    http: Address | None = None
    otel: Asked | None = None
    manager: ServiceManager = field(default_factory=ServiceManager)
