"""Plugins that the bad specs name: some proper, in `nodes`, and some broken, each in its own way."""
