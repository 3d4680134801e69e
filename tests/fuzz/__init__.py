"""Whatever strangers send: nothing but the errors that production catches, and bounded memory."""
