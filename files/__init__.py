"""How this project writes files, and how it opens files that others may have written."""
