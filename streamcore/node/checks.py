"""Does a packet's payload keep what its port declares? Asked of the first packet of a port or edge, of all, or of none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from streamcore.errors import ConfigError, PayloadError
from streamcore.node.api import Port, takes_arrays
from streamcore.node.views import has_form
from streamcore.packet import Array, JsonSchema
from streamcore.payload import BYTES_TYPES, JSON_TYPES, describe_payload, payload_fits
from streamcore.schema_check import compiled

OFF, FIRST, ALL = "off", "first", "all"  # SYNC: spec.model.CHECKS
# Types that a profile takes, whatever they hold.
SURE: dict[Any, frozenset[type]] = {"bytes": BYTES_TYPES, "json": JSON_TYPES, "any": BYTES_TYPES | JSON_TYPES}
ANYTHING = "JSON, bytes, or an array of booleans, integers or floats: nothing else can travel"


class Check:
    """What one port asks of payloads. Its owner drops it when `done_with` says so: then a packet costs one look at an attribute."""

    def __init__(self, name: str, port: Port, mode: str = ALL, config: Mapping[str, Any] = {}):
        """`name`: the port as errors name it, node.port. Raises ConfigError for a schema that cannot be checked."""
        self.name, self.port, self._once = name, port, mode == FIRST
        self._arrays = takes_arrays(port, config)
        self._breaks: Callable[[Any], str] | None = None
        self._sure = frozenset[type]() if isinstance(port.profile, (Array, JsonSchema)) else SURE[port.profile]
        self._array_type: Any = np.ndarray
        self._has_form: Callable[[Any, Any, Any], bool] = has_form  # here it costs no look-up
        self._last_dtype: Any = None  # of the last array that fits: most are like the one before
        self._last_shape: Any = None
        if isinstance(port.profile, JsonSchema):
            try:
                self._breaks = compiled(port.profile.text)
            except ConfigError as error:
                raise ConfigError(f"port {name}: its json_schema {error}") from None

    def done_with(self, payload: Any) -> bool:
        """True if no further packet has to be asked about.

        Raises:
          PayloadError: names the port, what was found and what is expected; never what the payload holds.
        """
        kind = type(payload)
        if kind in self._sure or (kind is self._array_type and self._has_form(payload, self._last_dtype, self._last_shape)):
            return self._once
        if not payload_fits(self.port.profile, payload):
            raise self._misfit(describe_payload(payload), ANYTHING if self.port.profile == "any" else str(self.port.profile))
        if not self._arrays and isinstance(payload, np.ndarray):
            found = describe_payload(payload)
            raise self._misfit(found, f"JSON or bytes: its transport is {self.port.transport}, and the node's config names no codec")
        if self._breaks is not None and (broken := self._breaks(payload)):
            raise self._misfit(f"{describe_payload(payload)} that breaks {broken}", str(self.port.profile))
        if kind is self._array_type:
            self._last_dtype, self._last_shape = payload.dtype, payload.shape
        return self._once

    def _misfit(self, found: str, expected: str) -> PayloadError:
        return PayloadError(f"port {self.name}: found {found}, expected {expected}")


def check_for(name: str, port: Port, mode: str, config: Mapping[str, Any]) -> Check | None:
    """The check of an input in this mode; None if nothing would ever be refused."""
    free = port.profile == "any" and takes_arrays(port, config)
    return None if mode == OFF or free else Check(name, port, mode, config)
