"""Machines as people write them: forms, tariffs in words, and the registrations that follow from them."""
