"""OAuth2 on both sides: tokens fetched by the gateway, tokens checked by a cloud; sealed secrets.

Begin with ``client.py`` (RFC 6749, 8414) and ``resource_server.py`` (RFC 9068).
"""
