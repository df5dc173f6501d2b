"""The actors: behaviours (pure), the session, and the hosts and wires that carry them."""
