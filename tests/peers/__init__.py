"""Peers that prove the daemon from outside: real servers, a recording sink, clients, and the daemon as a
process."""
