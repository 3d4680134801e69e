"""The till on a data folder: its file, its hands on the log, the chain and the gateways' topic."""
