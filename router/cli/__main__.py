"""``python -m router.cli`` is ``routescope``."""

from router.cli import main

main()
