"""The return path: mail that comes back, from the listener's door to what is written of it."""
