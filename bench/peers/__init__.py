"""The peers.  Every module here (not starting with "_") may define

    PEERS = {"peer-name": {"needs": ["module", ...], "role": callable-or-argv, ...}}

and is found by itself: drop a module in and its peers join every scenario whose
role they offer.  Modules import what they measure inside the role functions, so
listing peers costs nothing and a missing package only drops its own peers.
"""

import importlib
import importlib.util
import pkgutil
import shutil


def modules():
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def _installed(spec):
    return all(importlib.util.find_spec(m) for m in spec.get("needs", ())) and all(
        shutil.which(b) for b in spec.get("binaries", ())
    )


def everything(installed_only=True):
    out = {}
    for m in modules():
        for name, spec in importlib.import_module("peers." + m).PEERS.items():
            if not installed_only or _installed(spec):
                out[name] = spec
    return out


def find(name):
    for m in modules():
        spec = importlib.import_module("peers." + m).PEERS
        if name in spec:
            return spec[name]
    raise SystemExit("no such peer: " + name)
