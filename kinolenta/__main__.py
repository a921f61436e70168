"""``python -m kinolenta`` is the command ``kinolenta``."""

from kinolenta.cli import main

main()
