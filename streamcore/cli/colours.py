"""The colours of the states of nodes, wherever they are shown on a terminal."""

STYLES = {
    "READY": "green",
    "DONE": "green",
    "DRAINING": "yellow",
    "STARTING": "yellow",
    "BACKOFF": "yellow",
    "PAUSED": "yellow",
    "STUCK": "red",
    "KILLING": "red",
    "FAILED": "red",
    "EXITED": "red",
}
