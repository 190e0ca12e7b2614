"""Addresses: what is private, what is nobody's, and that no way of writing an address makes it something else."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridllm.addresses import AddressKind, kind_of, literal_address, refusal_of

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.1.1",
    "::1", "fc00::1", "fdff::1", "fe80::1", "fe80::1%2", "::ffff:10.0.0.1", "::ffff:127.0.0.1",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "172.15.255.255", "172.32.0.1", "11.0.0.1", "128.0.0.1", "192.169.0.1", "169.255.0.1", "126.255.255.255",
    "100.64.0.1", "100.127.255.255", "2606:4700::1111", "::ffff:8.8.8.8", "fec0::1", "2001:db8::1",
    # Whatever is inside: a translator or a tunnel is outside.
    "64:ff9b::8.8.8.8", "64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "2002:0a00:0001::1", "2002:7f00:0001::",
    "::ffff:0:10.0.0.1", "fe80::5efe:10.0.0.1", "fd00::200:5efe:192.168.0.1", "2001:0:a00:1::f5ff:fffe",
]  # fmt: skip
NEVER = [
    "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "169.254.169.254", "169.254.170.2",
    "100.100.100.200", "192.0.0.192", "::", "::2", "::127.0.0.1", "ff02::1", "ff02::1%2", "fd00:ec2::254", "fd00:ec2::254%3",
    "fd20:ce::254", "64:ff9b:1::10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:255.255.255.255",
    "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1", "::ffff:0:169.254.169.254", "fe80::5efe:169.254.169.254",
    "2001:0:a9fe:a9fe::1",
]  # fmt: skip
# Teredo hides the client's address behind its complement: this one is 169.254.169.254.
NEVER.append("2001:0:808:808:0:0:5601:5601")


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        *[(address, AddressKind.PRIVATE) for address in PRIVATE],
        *[(address, AddressKind.PUBLIC) for address in PUBLIC],
        *[(address, AddressKind.NEVER) for address in NEVER],
    ],
)
def test_the_kind_of_an_address(address, kind):
    assert kind_of(ip_address(address)) is kind


@given(st.integers(0, 2**32 - 1))
def test_ways_of_writing_an_ipv4_address_never_make_it_more_allowed(number):
    bare = kind_of(IPv4Address(number))
    assert kind_of(IPv6Address(0xFFFF << 32 | number)) is bare
    for prefix, shift in ((0x64FF9B << 96, 0), (0xFFFF << 48, 0), (0x2002 << 112, 80)):
        wrapped = kind_of(IPv6Address(prefix | number << shift))
        assert wrapped is (AddressKind.NEVER if bare is AddressKind.NEVER else AddressKind.PUBLIC)


@given(st.integers(0, 2**128 - 1).map(IPv6Address) | st.integers(0, 2**32 - 1).map(IPv4Address))
def test_the_standard_librarys_opinion_of_what_is_private_is_wider_than_ours(address):
    if kind_of(address) is AddressKind.PRIVATE:
        assert address.is_private or address.is_link_local
    if address.is_multicast or address.is_unspecified:
        assert kind_of(address) is AddressKind.NEVER


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "017700000001", "1.2.3.4.", "h"])
def test_what_is_not_plainly_an_address_is_a_name_that_gets_resolved_and_checked(host):
    assert literal_address(host) is None


def test_why_nothing_may_be_sent():
    public, private, never = (ip_address(text) for text in ("8.8.8.8", "10.0.0.1", "169.254.169.254"))
    for private_only in (False, True):
        for in_clear in (False, True):
            assert refusal_of(private, private_only=private_only, in_clear=in_clear) is None
            refusal = refusal_of(never, private_only=private_only, in_clear=in_clear)
            assert "metadata service" in refusal.why
    assert refusal_of(public, private_only=False, in_clear=False) is None
    assert "its zone has only those" in refusal_of(public, private_only=True, in_clear=False).why
    assert "plain http" in refusal_of(public, private_only=False, in_clear=True).why
    assert refusal_of(public, private_only=True, in_clear=True).mend == "Use https."
