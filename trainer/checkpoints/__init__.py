"""Everything that a run needs to go on, on disk: written beside the training, checked before it is believed."""
