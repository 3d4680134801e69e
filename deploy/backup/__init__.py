"""Copies of a data folder: made while all runs, rehearsed, brought back; and what may be deleted."""
