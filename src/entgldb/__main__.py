"""``python -m entgldb`` is the ``entgldb`` command."""

from entgldb.launch.cli import main

main()
