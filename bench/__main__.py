"""`python -m bench [NAME…]`: runs the benches of this folder, all or the named ones.

A bench is a module with `main() -> int` that prints what it measured; it returns 0 where every
bound holds.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules

import bench


def main(names: list[str]) -> int:
    known = [
        module.name for module in iter_modules(bench.__path__) if not module.name.startswith("_")
    ]
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no bench named {', '.join(unknown)}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    broken = []
    for name in names or known:
        print(f"== {name} ==", flush=True)
        if import_module(f"bench.{name}").main() != 0:
            broken.append(name)
        print(flush=True)
    if broken:
        print(f"out of bounds: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
