"""A WeeChat script that runs the conformance suite of ae_core, and writes what came out of it.

The suite waits, and a script cannot. So it runs in a greenlet: where it waits WeeChat goes on, and
after each call of a hook the suite is asked whether it waits for anything else.
"""
# ruff: noqa: E402 - the packages must be found first

import json
import os
import site
import sys
import threading
import traceback

settings = json.loads(os.environ["AE_WEECHAT_TEST"])
site.addsitedir(settings["site"])

import greenlet
import weechat

from ae_core import RecursiveWait
from ae_core.testing import ConformanceError, check_backend
from ae_weechat import WeechatBackend

hub = greenlet.getcurrent()
results = []


class Waiting(WeechatBackend):
    """The backend, with waits of the suite's."""

    def running(self):
        return False

    def _on_hook(self, data, value):
        code = super()._on_hook(data, value)
        suite.switch()
        return code

    def run_until(self, done):
        if greenlet.getcurrent() is hub:
            raise RecursiveWait("recursive blocking wait: a callback cannot wait")
        while not done():
            hub.switch()

    def poll(self, block):
        if not block:
            self.call_soon(int)
        hub.switch()


def run():
    try:
        results.extend(check_backend(Waiting, patience=5.0).results)
    except ConformanceError as error:
        results.extend(error.report.results)
    except BaseException:
        traceback.print_exc()


suite = greenlet.greenlet(run)


def turn(data, left):
    """Have the suite go on, now and then, whatever it waits for."""
    if not suite.dead:
        suite.switch()
    if suite.dead:
        with open(settings["out"], "w") as out:
            json.dump([(r.demand, r.way, r.outcome, r.text) for r in results], out)
        weechat.command("", "/quit")
    return weechat.WEECHAT_RC_OK


weechat.register("conformance", "tests", "1.0", "MIT", "the conformance suite", "", "")
# A script has an interpreter of its own, in which there are no signals: the demands for the main
# thread do not apply. (And WeeChat would take those of the suite for its own.)
threading.main_thread = threading.Thread
sys.stderr = open(settings["log"], "w", buffering=1)  # noqa: SIM115 - until the end
weechat.hook_timer(100, 0, 0, "turn", "")
