"""Proves, or refutes, what was posted."""
