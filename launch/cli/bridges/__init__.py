"""The verbs that hand changes to other systems, and the reading of their configuration."""
