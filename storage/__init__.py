"""The data that a node keeps: rules/ (pure) and the SQLite code around them."""
