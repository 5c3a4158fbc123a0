"""Against real servers, on every backend."""

from __future__ import annotations

import gc
import hashlib
import resource
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
import ae_irc as irc
from ae_core.abc import Backend
from ae_handle.testing import lingering
from ae_irc import Client

Make = Callable[..., Client]

SERVERS = ("ngircd", "inspircd")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, ngircd: Any, inspircd: Any) -> Any:
    return {"ngircd": ngircd, "inspircd": inspircd}[request.param]


async def next_text(events: irc.Events, text: str) -> irc.Text:
    async for event in events:
        if isinstance(event, irc.Text) and event.text == text:
            return event
    pytest.fail("the client has ended")


async def farewell(*clients: Client) -> None:
    for client in clients:
        await client.quit()
    while lingering():
        await ae.sleep(0.001)


# ---------------------------------------------------------------------- on every backend


def test_the_main_paths(backend: Backend, server: Any, make: Make) -> None:
    async def main() -> None:
        anna, bert = make("anna", server), make("bert", server)
        assert await anna.registered() == "anna"
        channel = await anna.join("#ae")
        events = anna.events()
        await bert.join("#AE")
        while "bert" not in channel.members:
            await ae.sleep(0.001)
        assert channel.members["ANNA"] == "o"
        assert set(bert.channels["#ae"].members) == {"anna", "bert"}
        bert.say("#ae", "hello \u20ac")
        said = await next_text(events, "hello \u20ac")
        assert (said.nick, said.channel, said.is_own) == ("bert", "#ae", False)
        assert said.reply_target == "#ae"
        long = "\u00e4bc " * 400
        mine = anna.events()
        count = bert.say("#ae", long)
        got = ""
        async for event in mine:
            if isinstance(event, irc.Text):
                got += event.text
                count -= 1
                if not count:
                    break
        assert got.replace(" ", "") == long.replace(" ", "")
        anna.send("MODE", "#ae", "+v", "bert")
        while channel.members["bert"] != "v":
            await ae.sleep(0.001)
        anna.say("bert", "psst")
        bert.send("NICK", "berta")
        async for event in events:
            if isinstance(event, irc.NickChanged):
                assert (event.old, event.new) == ("bert", "berta")
                break
        assert channel.members["berta"] == "v"
        await farewell(anna, bert)

    ae.run(main())


def test_tls_on_every_backend(backend: Backend, server: Any, make: Make) -> None:
    import ae_tls

    async def main() -> None:
        context = ae_tls.Context(ca_file=server.ca_file)
        url = f"ircs://127.0.0.1:{server.tls_port}"
        anna = make("anna", url=url, tls_context=context)
        events = anna.events()
        await anna.join("#tls")
        anna.action("#tls", "waves")
        assert (await next_text(events, "waves")).kind == "action"
        await farewell(anna)

    ae.run(main())


def test_a_lost_connection_on_every_backend(backend: Backend, ngircd: Any, make: Make) -> None:
    async def main() -> None:
        root = make("root")
        anna = make("anna", channels=["#lost"], max_delay=0.01)
        await anna.join("#lost")
        await root.registered()
        root.send("OPER", "root", "s3cret")
        events = anna.events()
        root.send("KILL", "anna", "go away")
        kinds = []
        async for event in events:
            if isinstance(event, irc.Disconnected | irc.Registered | irc.Listed):
                kinds.append(type(event))
            if isinstance(event, irc.Disconnected):
                assert event.delay is not None
            if isinstance(event, irc.Listed):
                break
        assert kinds == [irc.Disconnected, irc.Registered, irc.Listed]
        await farewell(anna, root)

    ae.run(main())


@pytest.mark.blocking
def test_all_styles_at_once(backend: Backend, make: Make) -> None:
    anna, bert = make("anna"), make("bert")
    anna.join("#styles").recv()
    bert.join("#styles").recv()
    called: list[str] = []
    anna.on(irc.Text, lambda _, event: called.append(event.text))

    async def task() -> str:
        return (await next_text(anna.events(), "to all")).nick

    spawned = ae.spawn(task())
    events = anna.events()
    ae.sleep(0.0).recv()
    bert.say("#styles", "to all")
    event = events.next().recv()
    while not isinstance(event, irc.Text):
        event = events.next().recv()
    assert spawned.recv() == "bert"
    assert called == ["to all"]
    anna.quit().recv()
    bert.quit().recv()


# ---------------------------------------------------------------------- what ngircd knows


def test_refusals_of_ngircd(make: Make) -> None:
    anna, bert = make("anna"), make("anna")
    anna.join("#closed").recv()
    assert bert.registered().recv() == "anna_"
    anna.send("MODE", "#closed", "+k", "sesame")
    while "k" not in anna.channels["#closed"].modes:
        ae.sleep(0.001).recv()
    with pytest.raises(irc.CannotJoin) as caught:
        bert.join("#closed").recv()
    assert caught.value.numeric == "475"
    assert bert.join("#closed", "sesame").recv().members["anna"] == "o"
    anna.quit().recv()
    while bert.nick != "anna":  # it was taken back
        ae.sleep(0.001).recv()


def test_ctcp_between_two_clients(make: Make) -> None:
    anna, bert = make("anna"), make("bert", ctcp_replies={"VERSION": "x y"})
    anna.registered().recv()
    bert.registered().recv()
    events = anna.events()
    anna.ctcp("bert", "VERSION")
    event = events.next().recv()
    while not (isinstance(event, irc.Ctcp) and event.is_reply):
        event = events.next().recv()
    assert (event.nick, event.argument) == ("bert", "x y")


def test_a_server_whose_certificate_is_not_trusted_is_refused_for_good(
    ngircd: Any, make: Make
) -> None:
    pytest.importorskip("ae_tls", reason="ae-tls is not installed")
    anna = make("anna", url=f"ircs://127.0.0.1:{ngircd.tls_port}")
    with pytest.raises(irc.Refused, match=r"(?i)certificate|untrusted|issuer"):
        anna.registered().recv()


# ---------------------------------------------------------------------- what InspIRCd knows


def test_capabilities_of_inspircd(inspircd: Any, make: Make) -> None:
    anna = make("anna", inspircd)
    events = anna.events()
    anna.join("#caps").recv()
    wanted = {"echo-message", "server-time", "message-tags", "multi-prefix", "extended-join"}
    assert wanted <= anna.capabilities
    assert anna.features.network == "TestNet"
    anna.say("#caps", "hi", tags={"+example.com/x": "a b;c"})
    event = events.next().recv()
    while not isinstance(event, irc.Text) or event.channel != "#caps":
        event = events.next().recv()
    assert event.is_own
    assert event.message is not None  # it is the server's echo, not ours
    assert event.message.tags["+example.com/x"] == "a b;c"
    assert "msgid" in event.message.tags
    assert event.time is not None
    bert = make("bert", inspircd)
    bert.join("#caps").recv()
    anna.send("MODE", "#caps", "+v", "anna")
    while anna.channels["#caps"].members["anna"] != "ov":
        ae.sleep(0.001).recv()
    bert.part("#caps")
    bert.join("#caps").recv()
    bert.quit().recv()
    assert anna.users["anna"].host is not None


def test_multi_prefix_tells_all_modes_of_a_member(inspircd: Any, make: Make) -> None:
    anna, bert = make("anna", inspircd), make("bert", inspircd)
    anna.join("#modes").recv()
    anna.send("MODE", "#modes", "+v", "anna")
    while anna.channels["#modes"].members["anna"] != "ov":
        ae.sleep(0.001).recv()
    channel = bert.join("#modes").recv()
    assert channel.members["anna"] == "ov"
    assert bert.users["anna"].host == anna.users["anna"].host  # userhost-in-names


def test_strict_transport_security_leads_to_tls_and_is_remembered(
    strict_inspircd: Any, make: Make
) -> None:
    import ae_tls

    sts = irc.StsStore()
    context = ae_tls.Context(ca_file=strict_inspircd.ca_file)
    url = f"irc://localhost:{strict_inspircd.port}"
    anna = make("anna", url=url, tls_context=context, sts=sts)
    made: list[tuple[int | str, bool]] = []
    anna.on(irc.Connected, lambda _, event: made.append((event.port, event.is_secure)))
    anna.registered().recv()
    secure = (strict_inspircd.tls_port, True)
    assert made == [(strict_inspircd.port, False), secure]
    assert sts.port("localhost") == strict_inspircd.tls_port
    made.clear()
    bert = make("bert", url=url, tls_context=context, sts=sts)
    bert.on(irc.Connected, lambda _, event: made.append((event.port, event.is_secure)))
    bert.registered().recv()
    assert made == [secure]
    anna.quit().recv()
    bert.quit().recv()
    while lingering():  # TLS takes its leave
        ae.sleep(0.001).recv()


def test_strict_transport_security_is_not_given_up_where_tls_fails(
    strict_inspircd: Any, make: Make
) -> None:
    pytest.importorskip("ae_tls", reason="ae-tls is not installed")
    anna = make("anna", strict_inspircd)  # which does not trust its certificate
    with pytest.raises(irc.Refused):
        anna.registered().recv()


# ---------------------------------------------------------------------- many


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Have nobody look for garbage again and again among a million objects that are none."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_thousand_clients_in_one_channel(inspircd: Any, make: Make) -> None:
    """All know all, by NAMES: half a million lines that tell of each other's coming are saved."""
    count = 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 200:
        pytest.skip(f"a process may open {hard} files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    heard = ae.CondVar[None]()

    def listen(client: Client, event: irc.Text) -> None:
        if event.channel == "#many" and event.text == "hello all":
            heard.end()

    def come(number: int) -> Client:
        patient = {"connect_timeout": 300, "ping_interval": 300}
        client = make(f"many{number}", inspircd, capabilities=(), **patient)
        client.on(irc.Text, listen)
        heard.begin()
        return client

    def wait_until_all(know: Callable[[irc.Channel], bool]) -> None:
        while not all(know(client.channels["#many"]) for client in clients):
            ae.sleep(0.01).recv()

    clients = [come(0)]
    clients[0].join("#many").recv()
    clients[0].send("MODE", "#many", "+u")  # an auditorium, in which nobody is seen
    wait_until_all(lambda channel: "u" in channel.modes)
    clients += [come(number) for number in range(1, count - 1)]
    for each in [client.join("#many") for client in clients]:
        each.recv()
    clients[0].send("MODE", "#many", "-u")
    wait_until_all(lambda channel: "u" not in channel.modes)
    for client in clients:
        client.send("NAMES", "#many")
    wait_until_all(lambda channel: len(channel.members) == count - 1)
    clients.append(come(count))
    clients[-1].join("#many").recv()
    wait_until_all(lambda channel: len(channel.members) == count)
    clients[-1].say("#many", "hello all")
    heard.recv()
    for client in clients:
        client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---------------------------------------------------------------------- accounts


def test_a_certificate_says_who_it_is(inspircd_with_accounts: Any, make: Make) -> None:
    testing = pytest.importorskip("ae_tls.testing", reason="ae-tls is not installed")
    ae_tls = pytest.importorskip("ae_tls")
    server = inspircd_with_accounts
    name = "annabel"
    leaf = testing.CertificateAuthority().issue(name)
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(leaf.cert_pem)).hexdigest()
    url = f"ircs://127.0.0.1:{server.tls_port}"

    def client(nick: str, certificate: Any, **options: Any) -> Client:
        context = ae_tls.Context(
            ca_file=server.ca_file, cert=certificate.cert_pem, key=certificate.key_pem
        )
        return make(nick, url=url, tls_context=context, **options)

    async def asked(client: Client, words: str, answer: str) -> None:
        events = client.events()
        client.say("NickServ", words)
        async for event in events:
            if isinstance(event, irc.Text) and answer in event.text:
                return

    async def main() -> None:
        anna = client(name, leaf)
        await anna.registered()
        await asked(anna, "REGISTER p3ncil-and-paper a@example.com", "is now registered")
        await asked(anna, f"CERT ADD {fingerprint}", "Added fingerprint")
        await farewell(anna)
        again = client("other", leaf, sasl=irc.Sasl())
        events = again.events()
        assert await again.registered() == "other"
        async for event in events:
            message = event.message
            if message is not None and message.command == "900":
                assert name in message.params
                break
        await farewell(again)
        stranger = client("third", testing.CertificateAuthority().issue(name), sasl=irc.Sasl())
        with pytest.raises(irc.SaslFailed):
            await stranger.registered()

    ae.run(main())
