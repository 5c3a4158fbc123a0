"""Client libraries: redis-py, coredis, dnspython, aiodns."""

import asyncio

from wire import HOST, REDIS_VALUE, now


def redis_asyncio(opt):
    import redis.asyncio as R

    depth, secs = int(opt["depth"]), float(opt["seconds"])

    async def main():
        c = R.Redis(host=HOST, port=int(opt["port"]))
        keys = [b"key:%d" % i for i in range(depth // 2)]

        async def execute():
            p = c.pipeline(transaction=False)
            for k in keys:
                p.set(k, REDIS_VALUE)
                p.get(k)
            r = await p.execute()
            assert len(r) == depth

        await execute()
        n, t0 = 0, now()
        while now() - t0 < secs:
            await execute()
            n += depth
        rate = n / (now() - t0)
        await c.aclose()
        return rate

    return {"ops": (asyncio.run(main()), "1/s")}


def redis_sync(opt):
    import redis as R

    depth, secs = int(opt["depth"]), float(opt["seconds"])
    c = R.Redis(host=HOST, port=int(opt["port"]))
    keys = [b"key:%d" % i for i in range(depth // 2)]

    def execute():
        p = c.pipeline(transaction=False)
        for k in keys:
            p.set(k, REDIS_VALUE)
            p.get(k)
        assert len(p.execute()) == depth

    execute()
    n, t0 = 0, now()
    while now() - t0 < secs:
        execute()
        n += depth
    return {"ops": (n / (now() - t0), "1/s")}


def redis_coredis(opt):
    import coredis

    depth, secs = int(opt["depth"]), float(opt["seconds"])

    async def main():
        c = coredis.Redis(host=HOST, port=int(opt["port"]))
        keys = [b"key:%d" % i for i in range(depth // 2)]

        async def loop():
            async def execute():
                async with c.pipeline(transaction=False) as p:
                    out = []
                    for k in keys:
                        p.set(k, REDIS_VALUE)
                        out.append(p.get(k))
                    if hasattr(p, "execute"):
                        await p.execute()
                assert await out[-1] == REDIS_VALUE

            await execute()
            n, t0 = 0, now()
            while now() - t0 < secs:
                await execute()
                n += depth
            return n / (now() - t0)

        if hasattr(c, "__aenter__"):
            async with c:
                return await loop()
        return await loop()

    return {"ops": (asyncio.run(main()), "1/s")}


def _dns(make):
    def role(opt):
        width, secs = int(opt["outstanding"]), float(opt["seconds"])

        async def main():
            ask, close = make(int(opt["port"]), width)
            n = serial = 0
            t0 = now()

            async def worker():
                nonlocal n, serial
                while now() - t0 < secs:
                    serial += 1
                    got = await ask(f"q{serial}.bench.test")
                    assert got == "127.0.0.9", got
                    n += 1

            await asyncio.gather(*[worker() for _ in range(width)])
            rate = n / (now() - t0)
            await close()
            return rate

        return {"queries": (asyncio.run(main()), "1/s")}

    return role


async def _nothing():
    pass


def dnspython(port, width):
    import dns.asyncresolver

    r = dns.asyncresolver.Resolver(configure=False)
    r.nameservers = [HOST]
    r.port = port

    async def ask(name):
        return (await r.resolve(name + ".", "A"))[0].address

    return ask, _nothing


def aiodns(port, width):
    import aiodns

    r = aiodns.DNSResolver(nameservers=[HOST], udp_port=port, timeout=5)

    async def ask(name):
        ans = await r.query_dns(name, "A")
        return ans.answer[0].data.addr

    return ask, r.close


PEERS = {
    "redis-py-asyncio": {
        "needs": ["redis", "hiredis"],
        "module": "redis.asyncio",
        "redis": redis_asyncio,
    },
    "redis-py-sync": {"needs": ["redis", "hiredis"], "module": "redis", "redis": redis_sync},
    "coredis": {"needs": ["coredis"], "module": "coredis", "redis": redis_coredis},
    "dnspython": {"needs": ["dns"], "module": "dns.asyncresolver", "dns": _dns(dnspython)},
    "aiodns": {"needs": ["aiodns"], "module": "aiodns", "dns": _dns(aiodns)},
}
