"""Every message between actors, nodes and clients. Pure; imports nothing of ours."""
