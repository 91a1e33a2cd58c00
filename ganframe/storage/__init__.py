"""Files of a run: the run folder, atomic writing, weights, checkpoints, the training log, versions."""
