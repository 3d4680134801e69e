"""Sells sessions of machines over HTTP 402, by the x402 protocol."""
