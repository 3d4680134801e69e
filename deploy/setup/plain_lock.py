"""Takes the addresses out of an npm lock: where packages were fetched from and where to donate. The hashes stay."""

import json
import sys
from pathlib import Path

_ADDRESSES = ("resolved", "funding")


def without_addresses(lock: str) -> str:
    """The lock's text with the same packages and hashes and no address."""
    content = json.loads(lock)
    for package in content["packages"].values():
        for field in _ADDRESSES:
            package.pop(field, None)
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(without_addresses(path.read_text(encoding="utf-8")), encoding="utf-8")
