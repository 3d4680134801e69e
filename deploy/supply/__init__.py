"""A supplier of machines: orders from their topic, deliveries that are simulated, invoices into the log."""
