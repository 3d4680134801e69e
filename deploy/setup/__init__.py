"""From a bare checkout to everything that `make` needs."""
