"""The store's part of the audit log: a request has its row in the transaction that carries it out.

``acts.py`` says which requests have a row and how it reads, ``behalf.py`` for whom a client asks;
``auditor.py`` writes.
"""
