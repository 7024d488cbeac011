"""The command line: `moesaic VERB INPUT... [-o OUTPUT] [options] [--force] [--json] [--quiet]`."""

from moesaic.cli.verbs import app, main

__all__ = ["app", "main"]
