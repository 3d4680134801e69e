"""The stream worker: Faust, the partitions it owns, and how it is watched."""
