"""Ports to the outside: files, the journal, keys and the chain."""
