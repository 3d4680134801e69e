"""The rules a second time, written apart and slow, to check the core; and the command that replays a vector."""
