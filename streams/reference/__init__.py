"""The rules once more, written apart and slowly, to check the core; and the command that replays a vector."""
