"""How this project writes a file, and how it opens one that somebody else wrote."""
