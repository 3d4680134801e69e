"""`tallyroot attack`."""
