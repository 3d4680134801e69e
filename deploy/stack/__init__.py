"""The servers and workers of a data folder: started, found again, supervised, stopped."""
