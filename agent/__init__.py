"""A machine that spends: it buys what it needs from tills, within the limits of its policy."""
