"""The figures: `make bench`, or `python -P -m bench [--quick] [NAME …]`.

Rule of this room: what people run is measured, as they run it: the real command against a real server. Nothing here is
a test, and no test looks here.
"""

import sys
from pathlib import Path

# The stage of the stories is that of the figures too.
sys.path.append(str(Path(__file__).parent.parent / "tests"))
