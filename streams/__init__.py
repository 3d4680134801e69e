"""From a log to sealed windows. `core` and `reference` are pure; `kafka`, `storage` and `worker` reach outside."""
