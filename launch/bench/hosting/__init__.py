"""Figures of a cloud node: what it stores for its tenants (W9), and the tokens that it verifies (W12)."""
