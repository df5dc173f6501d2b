"""``python -m entgldb`` is the ``entgldb`` command."""

from entgldb.launch.cli.main import main

main()
