"""The outermost shell: commands, settings, the embedded servers. Nobody imports this package."""
