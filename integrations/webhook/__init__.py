"""The feed as signed POSTs to one URL (Standard Webhooks), in order, at least once. Begin with
``sink.py``."""
