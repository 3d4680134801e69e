"""The agent on a data folder: its policy's file, its hands on the log, the ledger and the tills."""
