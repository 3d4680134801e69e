"""The files of settlement: published epochs, which it reads, its posts, and the journal of postings."""
