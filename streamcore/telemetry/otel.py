"""Whether and where traces are exported to, in the protocol of OpenTelemetry: asked for by an option, or by its standard variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

EXTRA = "pip install 'streamcore[otel]'"
PROTOCOL = "http/protobuf"
BASE, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_PATH = "/v1/traces"


@dataclass(frozen=True)
class Asked:
    """`url`: where spans are posted to. `by`: the option or the variable that says so; `insisted`: an option, so it has to work."""

    url: str
    by: str
    protocol: str = PROTOCOL
    insisted: bool = False


def asked(base: str | None, environ: Mapping[str, str]) -> Asked | None:
    """By `base`, the value of the option, or else by the environment, which may also say that nothing is to be exported at all."""
    if base is not None:
        return Asked(_with_path(base), "--otel", insisted=True)
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or environ.get("OTEL_TRACES_EXPORTER", "").strip() == "none":
        return None
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or PROTOCOL
    if environ.get(TRACES):
        return Asked(environ[TRACES], TRACES, protocol)
    return Asked(environ[BASE].rstrip("/") + _PATH, BASE, protocol) if environ.get(BASE) else None


def unfit(url: str) -> str:
    """What is wrong with a place to export to; "" if nothing is."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    return "" if fits else "expected http://HOST:PORT or https://HOST:PORT of a collector, e.g. http://127.0.0.1:4318"


def _with_path(base: str) -> str:
    return base if base.endswith(_PATH) else base.rstrip("/") + _PATH
