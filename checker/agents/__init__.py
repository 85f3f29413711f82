"""The checker for coding agents: the same answers as on the command line, small, and about one folder only."""
