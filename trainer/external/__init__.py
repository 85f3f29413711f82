"""Any program as the trainer of an experiment: it gets a spec, it is watched and stopped, its result is examined."""
