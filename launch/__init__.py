"""How it starts: configuration, command line, node, local cluster, client API."""
