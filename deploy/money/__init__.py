"""What a treasurer does with a data folder: the ledger, its roles, shares of machines."""
