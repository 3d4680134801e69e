"""Proves or refutes posts from the log."""
