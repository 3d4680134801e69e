"""The files of settlement: published epochs as it reads them, posts, the journal of postings."""
