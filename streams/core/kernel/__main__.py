"""Compiles every loop of this folder into the cache: `python -m streams.core.kernel`, once in the set-up."""

import importlib
import pkgutil

import streams.core.kernel

for _module in pkgutil.iter_modules(streams.core.kernel.__path__):
    if _module.name != "__main__":
        importlib.import_module(f"streams.core.kernel.{_module.name}")
