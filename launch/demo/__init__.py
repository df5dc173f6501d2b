"""The main job end to end on real processes, told step by step.

Begin with ``run.py``.
"""
