"""From a log to sealed windows: `advance` and what it stands on is pure; `adapters/` and `app.py` reach outside."""
