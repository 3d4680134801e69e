"""Why a reading, a window or an amount is what it is."""
