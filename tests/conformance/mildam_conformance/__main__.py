"""`python -m mildam_conformance vectors FOLDER`, `... mutate FOLDER`, `... talk LINK`."""

import sys
from pathlib import Path

from . import client, vectors

match sys.argv[1:]:
    case ["vectors", folder]:
        sys.exit(0 if vectors.run(Path(folder)) else 1)
    case ["mutate", folder]:
        sys.exit(0 if vectors.mutate(Path(folder)) else 1)
    case ["talk", link]:
        client.talk(link)
    case _:
        sys.exit(__doc__)
