"""The control socket: requests that the CLI and other programs send to a live run."""
