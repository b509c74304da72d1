"""A snapshot shows which requests run, wait and are preempted, since when and why."""

from service.core.messages.commands import Submit


def views(sim):
    return {view.request_id: view for view in sim.core.snapshot(0, sim.now).requests}


def test_an_arrival_waits_for_the_next_step(simulation, submit):
    sim = simulation()
    sim.submit(submit("a", 10))
    assert (views(sim)["a"].state, views(sim)["a"].because) == ("waiting", "step")


def test_a_request_that_found_the_batch_full_waits_for_a_slot(simulation, submit):
    sim = simulation(max_num_seqs=1)
    for name in "ab":
        sim.submit(submit(name, 10))
    sim.step()
    assert (views(sim)["a"].because, views(sim)["b"].because) == (None, "slot")


def test_a_request_that_finds_the_memory_full_waits_for_room(simulation, submit):
    sim = simulation(device_blocks=4)
    for name in "ab":
        sim.submit(submit(name, 40, max_tokens=20))
    sim.step()
    assert views(sim)["b"].because == "room"


def test_states_have_their_time(simulation, submit):
    sim = simulation("priority", max_num_seqs=1)
    sim.submit(submit("low", 10, max_tokens=20, priority=1))
    sim.step()
    sim.step()
    assert (views(sim)["low"].state, views(sim)["low"].since_s) == ("running", 2.0)
    sim.submit(submit("high", 10, max_tokens=3))
    sim.step()
    low = views(sim)["low"]
    assert (low.state, low.because, low.preemptions, low.since_s, low.age_s) == ("preempted", "slot", 1, 1.0, 3.0)
    while "high" in views(sim):
        sim.step()
    sim.step()
    assert (views(sim)["low"].state, views(sim)["low"].since_s) == ("running", 1.0)


def test_its_pools_are_the_memorys_and_its_counts_the_gauges(simulation, submit):
    sim = simulation()
    for name in "ab":
        sim.submit(submit(name, 20, scope=("t", "u"), tenant="t"))
    sim.run()
    sim.submit(submit("c", 30))
    sim.step()
    snapshot = sim.core.snapshot(7, sim.now)
    device, host = snapshot.pools
    assert snapshot.number == 7
    assert snapshot.gauges == sim.core.gauges()
    assert (device.used, device.reserved) == (snapshot.gauges.blocks_used, snapshot.gauges.blocks_reserved)
    held = [*snapshot.requests, *snapshot.idle_sessions]
    assert sum(view.blocks for view in held) == device.used
    assert [session.tenant for session in snapshot.idle_sessions] == ["t", "t"]
    assert (host.blocks, host.used) == (0, 0)


def test_a_tenant_keeps_only_as_many_idle_sessions_as_its_last_turn_says(simulation, submit):
    sim = simulation()

    def turn(name: str, tenant: str) -> Submit:
        return submit(name, 20, scope=(tenant, ""), tenant=tenant, max_idle_sessions=2)

    for number in range(4):
        sim.submit(turn(f"a{number}", "a"))
        sim.submit(turn(f"b{number}", "b"))
    sim.run()
    idle = [session.tenant for session in sim.core.snapshot(0, sim.now).idle_sessions]
    assert sorted(idle) == ["a", "a", "b", "b"]
    assert [event.reason for event in sim.log if type(event).__name__ == "SessionDropped"] == ["limit"] * 4
    sim.core.check()
