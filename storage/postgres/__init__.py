"""The storage of a cloud on PostgreSQL, or on what speaks its language: the same code on another connection.

``connection.py`` offers what the code of ``storage`` uses of ``sqlite3.Connection``; ``translate.py`` makes
of its statements such that know the tenant. Begin there. Needs the extra ``postgres``: nothing here is
imported without a setting that names PostgreSQL.
"""
