"""Sealed windows to roots, payouts and claims on an EVM ledger."""
