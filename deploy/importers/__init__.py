"""Recorded files as the records of a log."""
