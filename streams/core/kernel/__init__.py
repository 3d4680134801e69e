"""The compiled core: plain loops over integer arrays, in the order of the log."""
