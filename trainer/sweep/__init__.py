"""Several specs, one process each: on this machine, as tasks of Ray, or as an array of Slurm jobs.

Whoever starts a run starts the same child, `trainer run`, so that requests, signals and exit codes mean the same.
"""
