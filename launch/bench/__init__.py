"""Every figure beside its floor, measured in turns in one run.

Begin with ``works.py`` (what is measured) and ``run.py`` (how).
"""
