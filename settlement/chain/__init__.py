"""The part of settlement that talks to the chain or holds a key."""
