"""Files of inference engines as they are, imported one by one: a package's own `__init__` would want all that a server needs.

An engine is found where Python finds packages: installed, or in a folder that PYTHONPATH names and that holds the package, such as an
unpacked wheel.
"""

import importlib.util
import os
import sys
import types

import ranks as base


def find(package):
    """The folder of a package, or the end of this process where there is none."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        base.skip(f"no {package} here: install it, or name the folder that holds it in PYTHONPATH")
    return list(spec.submodule_search_locations)[0]


def open_packages(*names):
    """Makes packages whose modules can be imported, and whose `__init__` does not run."""
    for name in names:
        root, *inner = name.split(".")
        module = types.ModuleType(name)
        module.__path__ = [os.path.join(find(root) if root == name else sys.modules[root].__path__[0], *inner)]
        sys.modules[name] = module


def stand_in(name, **contents):
    """A module in place of one that an engine's file imports and that is not what is tried here."""
    module = types.ModuleType(name)
    module.__dict__.update(contents)
    sys.modules[name] = module


class Instead:
    """A module, but for some of its names."""

    def __init__(self, module, **names):
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name):
        return getattr(self._module, name)
