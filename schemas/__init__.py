"""The nouns of tallyroot: frozen records, their canonical bytes, and nothing that reads or writes."""
