"""Data on disk and in an object store: checkpoints, epochs, archives, views."""
