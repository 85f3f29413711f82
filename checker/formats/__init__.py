"""The logs of other programs: one kind a file, `roll` calls them by name."""
