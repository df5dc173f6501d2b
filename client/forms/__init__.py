"""Documents in other forms: values of classes (`typed`), tables of data libraries (`frames`).

Used by `client.collection` and `client.database`. Begin with `typed`.
"""
