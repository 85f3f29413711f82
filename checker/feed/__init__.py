"""What a script or a coding agent is told: one feed of events per watched folder, and waiting for one run."""
