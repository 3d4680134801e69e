"""`tallyroot demo`."""
