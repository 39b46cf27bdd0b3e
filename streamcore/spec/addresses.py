"""Where a run may listen: on loopback, and elsewhere only if that is said twice."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

LOOPBACK = "127.0.0.1"
PORT_MAX = 65535


class Unfit(NamedTuple):
    """What is wrong with a host."""

    expected: str
    hint: str = ""


def numeric(host: str) -> str | None:
    """The address that a host stands for; None if it is none. Names are not looked up: what they say may change."""
    try:
        return LOOPBACK if host == "localhost" else str(ipaddress.ip_address(host))
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def unfit(host: str, *, exposed: bool, how: str) -> Unfit | None:
    """`how`: what has to be said as well for a host beyond loopback."""
    address = numeric(host)
    if address is None:
        return Unfit("an address such as 127.0.0.1, or localhost")
    if not exposed and not is_loopback(address):
        return Unfit(f"a loopback address, or {how}", "anybody who can reach this address could read the numbers of the run")
    return None
