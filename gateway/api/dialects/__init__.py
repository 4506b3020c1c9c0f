"""One module for each API of others, and what they share. `foreign.DIALECTS` says which are served."""
