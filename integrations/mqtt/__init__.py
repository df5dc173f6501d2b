"""Collections as topics of an MQTT 5 broker, and topics as collections (extra ``[mqtt]``). Begin with
``bridge.py``; ``routes.py`` says which document belongs to which topic.
"""
