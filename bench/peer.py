"""Run one role of one peer:  python peer.py NAME ROLE [key=value ...]

A role is a callable taking the options as a dict, or an argv list to exec
(for peers that are not Python).  Callables that return a dict have it printed
as one JSON object.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)


def main(argv):
    name, role, rest = argv[0], argv[1], argv[2:]
    import peers

    fn = peers.find(name)[role]
    if isinstance(fn, (list, tuple)):
        cmd = [a.replace("{bench}", HERE) for a in fn]
        os.execvp(cmd[0], cmd + rest)
    got = fn(dict(kv.split("=", 1) for kv in rest))
    if got is not None:
        print(json.dumps(got))


if __name__ == "__main__":
    main(sys.argv[1:])
