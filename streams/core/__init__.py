"""The rules, pure: from records to sealed windows, manifests and everything that follows from a log alone."""
