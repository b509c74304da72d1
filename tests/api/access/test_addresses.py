"""Which address a request comes from, and what it is charged as."""

import re
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.access.addresses import address_tenant, client_address, parse_address

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def tenant_of(text: str | None) -> str:
    return address_tenant(parse_address(text))


def client_of(peer: str | None, *forwarded: str) -> str:
    return str(client_address(parse_address(peer), forwarded, PROXIES))


def test_an_ipv4_client_is_its_address():
    assert tenant_of("192.0.2.7") == "address:192.0.2.7"
    assert tenant_of("192.0.2.7") != tenant_of("192.0.2.8")


def test_an_ipv6_client_is_its_network_of_64_bits():
    assert tenant_of("2001:db8:0:5::1") == tenant_of("2001:db8:0:5:ffff::2") == "address:2001:db8:0:5::/64"
    assert tenant_of("2001:db8:0:5::1") != tenant_of("2001:db8:0:6::1")


def test_an_ipv4_address_inside_ipv6_is_the_ipv4_address():
    assert tenant_of("::ffff:192.0.2.7") == tenant_of("192.0.2.7")


def test_the_zone_that_a_client_writes_is_not_in_its_name():
    assert tenant_of("fe80::1%canary") == "address:fe80::/64"


@pytest.mark.parametrize("peer", [None, "", "/run/fastswitch.sock"])
def test_all_clients_without_an_address_are_one_tenant(peer):
    assert tenant_of(peer) == "address:unknown"


@given(st.ip_addresses() | st.text(max_size=300))
def test_a_name_is_short_and_fit_for_labels_whatever_the_address(address):
    assert re.fullmatch(r"address:[a-z0-9:./]{1,56}", tenant_of(str(address)))


def test_a_client_that_is_no_trusted_proxy_is_not_believed():
    assert client_of("192.0.2.7", "198.51.100.1") == "192.0.2.7"


def test_a_proxys_client_is_the_last_that_it_names():
    assert client_of("10.0.0.1", "198.51.100.1, 192.0.2.7") == "192.0.2.7"


def test_trusted_hops_are_passed_over_from_the_right():
    assert client_of("fd00::1", "198.51.100.1, 192.0.2.7, 10.0.0.2, 10.9.9.9") == "192.0.2.7"


def test_several_headers_are_one_list():
    assert client_of("10.0.0.1", "198.51.100.1", "192.0.2.7,10.0.0.2") == "192.0.2.7"


def test_a_proxy_may_be_seen_through_a_mapped_address():
    assert client_of("::ffff:10.0.0.1", "::ffff:192.0.2.7") == "192.0.2.7"


@pytest.mark.parametrize("bad", ["", "unknown", "192.0.2.7:80", "192.0.2", "_hidden", "canary"])
def test_what_is_no_address_ends_the_walk_at_the_last_good_one(bad):
    assert client_of("10.0.0.1", f"198.51.100.1, {bad}") == "10.0.0.1"
    assert client_of("10.0.0.1", f"198.51.100.1, {bad}, 10.0.0.2") == "10.0.0.2"


def test_a_proxy_that_names_no_client_is_charged_itself():
    assert client_of("10.0.0.1") == client_of("10.0.0.1", "10.0.0.1") == "10.0.0.1"


def test_without_a_peer_no_header_counts():
    assert client_of(None, "192.0.2.7") == "None"


@given(st.lists(st.ip_addresses().map(str) | st.text(max_size=20)))
def test_whatever_stands_left_of_the_client_changes_nothing(forged):
    assert client_of("10.0.0.1", *forged, "192.0.2.7, 10.0.0.3") == "192.0.2.7"
