"""The command line: flags become the same public calls."""
