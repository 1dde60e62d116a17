"""How fast the engine is: `make bench`, beside what users have and beside the machine's limits."""
