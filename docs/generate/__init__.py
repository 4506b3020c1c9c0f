"""The reference, docs/reference/, made of the code: `make docs` writes it, tests/docs/test_reference.py sees it stale.

What a thing is called, its type and its default are read from the code; what it means is a line in a table here where
the code has none. A thing without such a line stops the making: nothing is listed that is not explained.
"""
