"""Simulated fleets and their faults."""
