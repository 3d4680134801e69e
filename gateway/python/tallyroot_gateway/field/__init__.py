"""What every gateway of a field protocol stands on: its file, its intake, units, rejects, metrics and clocks."""
