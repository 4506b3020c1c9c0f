"""TLS to the next hop: what a route, a domain's MTA-STS policy or its DANE records demand, and what a host showed."""
