"""A WeeChat script that uses three libraries at once while WeeChat's own timer goes on."""
# ruff: noqa: E402 - the packages must be found first

import json
import os
import site
import sys

settings = json.loads(os.environ["AE_WEECHAT_TEST"])
site.addsitedir(settings["site"])

import weechat

import ae_core as ae

seen = {"ticks": 0}
kept = []


def tick(data, left):
    """Called by WeeChat itself."""
    seen["ticks"] += 1
    return weechat.WEECHAT_RC_OK


async def main():
    import ae_dns
    import ae_http
    import ae_redis

    resolver = ae_dns.Resolver(servers=[settings["dns"]], search=[], timeouts=(2, 5))
    ae_dns.set_resolver(resolver)
    ae_dns.install()
    client = ae_http.Client()
    redis = ae_redis.Redis(settings["redis"])
    page, addresses, _ = await ae.gather(
        client.get(f"http://www.weechat.test:{settings['port']}/"),
        ae_dns.a("www.weechat.test"),
        redis.set("seen", "by WeeChat"),
    )
    seen["page"] = page.text
    seen["addresses"] = addresses
    seen["redis"] = (await redis.get("seen")).decode()
    seen["thread"] = await ae.to_thread(sum, [1, 2])
    client.close()
    redis.close()
    try:
        ae.CondVar().recv()
    except ae.BlockingNotAllowed as error:
        seen["blocking"] = str(error)
    try:
        ae.signal("TERM", print)
    except Exception as error:
        seen["signal"] = type(error).__name__
    began = seen["ticks"]
    while seen["ticks"] < began + 5:
        await ae.sleep(0.001)
    return "done"


def finished(task):
    try:
        seen["result"] = task.recv()
    except BaseException as error:
        seen["result"] = repr(error)
    kept.append(ae.timer(3600, print))
    weechat.command("", "/quit")


def stop():
    """Called by WeeChat when it unloads the script."""
    try:
        ae.CondVar().recv()
    except ae.BlockingNotAllowed as error:
        seen["blocking at the end"] = str(error)
    seen["released"] = ae.release()
    with open(settings["out"], "w") as out:
        json.dump(seen, out)
    return weechat.WEECHAT_RC_OK


weechat.register("libraries", "tests", "1.0", "MIT", "libraries at work", "stop", "")
sys.stderr = open(settings["log"], "w", buffering=1)  # noqa: SIM115 - until the end
weechat.hook_timer(5, 0, 0, "tick", "")
ae.use("weechat")
task = ae.spawn(main())
task.on_ready(finished)
