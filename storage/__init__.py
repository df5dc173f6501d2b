"""What is kept: rules/ (pure) and the SQLite code around them."""
