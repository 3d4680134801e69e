"""Everything of settlement that speaks to the chain or holds a key."""
