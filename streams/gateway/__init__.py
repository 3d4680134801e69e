"""The producing side: what a machine's gateway, or a replay of recorded data, writes into a log."""
