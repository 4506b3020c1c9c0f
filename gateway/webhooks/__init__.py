"""Telling programs what becomes of their mail: places in the event log, and requests that are signed."""
