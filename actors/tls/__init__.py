"""Certificates of a cluster, and links: frames over TLS 1.3, in and out, within limits.

Decides nothing about what the frames say. Begin with ``links.py``.
"""
