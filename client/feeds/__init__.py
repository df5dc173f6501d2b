"""Made of the change feed: a selection of it, documents that enter and leave, queries that stay true.

`client.database`, `client.collection` and `client.aio` use it. Begin with `watching`, then `live`.
"""
