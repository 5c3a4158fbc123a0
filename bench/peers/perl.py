"""The original: Perl AnyEvent on EV, on its own pure-perl loop, and EV's native interface."""

_ROLES = ("timers", "watchers", "pingpong", "servers", "echo", "sink", "source", "redis", "dns")


def _perl(loop, variant, roles):
    spec = {r: ["perl", "{bench}/peers/anyevent.pl", loop, variant, r] for r in roles}
    return dict(binaries=["perl"], no_tls=variant != "plain", **spec)


PEERS = {
    "perl-ev": _perl("EV", "plain", _ROLES),
    "perl-pp": _perl("Perl", "plain", _ROLES),
    "perl-ev-autocork": _perl("EV", "autocork", ("echo",)),
    "perl-ev-raw": _perl(
        "EV", "raw", ("echo", "timers", "watchers", "pingpong", "servers", "sink", "source")
    ),
}
