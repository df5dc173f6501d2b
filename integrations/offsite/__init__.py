"""Backups of a node somewhere else, again and again: a folder, or S3 (extra ``[s3]``). Begin with
``runs.py``; ``ledger.py`` knows what was written, so that nothing else is ever removed.
"""
