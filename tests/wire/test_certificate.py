"""Certificates: which ones prove what they say, and which are refused."""

import tracemalloc

import cbor2
import pytest

from bridge import wire
from bridge.errors import CertificateError
from bridge.principal import Principal
from bridge.wire import hashtree

SECOND = 1_000_000_000
DAY = 86_400 * SECOND


def test_a_certificate_of_the_root_subnet_verifies_and_shows_its_content(world):
    made = world.certificate({b"canister": {b"1": {b"module_hash": b"hash"}}})
    shown = wire.Certificate.from_cbor(made.pruned([(b"canister", b"1")]).to_cbor())
    shown.verify(world.root.public_key_der, now=world.now)
    assert shown.time == world.now
    assert shown.lookup((b"canister", b"1", b"module_hash")) == hashtree.Found(b"hash")
    assert shown.value((b"canister", b"1", b"nothing")) is None
    assert shown.signer(world.root.public_key_der) == Principal.self_authenticating(
        world.root.public_key_der
    )


@pytest.mark.parametrize("flat", [False, True], ids=["sharded ranges", "unsharded ranges"])
def test_a_delegated_certificate_verifies_within_its_ranges_only(world, canister_id, flat):
    delegation = world.delegation(
        shards=[
            [(canister_id(1), canister_id(3)), (canister_id(5), canister_id(8))],
            [(canister_id(10), canister_id(12))],
        ],
        flat=flat,
    )
    certificate = world.certificate(delegation=delegation, key=world.subnet)
    for inside in (1, 3, 5, 8, 10, 12):
        certificate.verify(world.root.public_key_der, canister_id(inside), now=world.now)
    for outside in (0, 4, 9, 13):
        with pytest.raises(CertificateError, match="may not speak of"):
            certificate.verify(world.root.public_key_der, canister_id(outside), now=world.now)


def test_unsharded_ranges_can_be_refused(world, canister_id):
    certificate = world.certificate(delegation=world.delegation(flat=True), key=world.subnet)
    certificate.verify(world.root.public_key_der, canister_id(1), now=world.now)
    with pytest.raises(CertificateError, match="may not speak of"):
        certificate.verify(
            world.root.public_key_der, canister_id(1), now=world.now, sharded_ranges_only=True
        )


def test_a_certificate_signed_by_another_key_is_refused(world):
    certificate = world.certificate(key=world.subnet)
    with pytest.raises(CertificateError, match="signature is not the subnet's"):
        certificate.verify(world.root.public_key_der, now=world.now)


def test_a_delegation_signed_by_another_key_is_refused(world, canister_id):
    certificate = world.certificate(delegation=world.delegation(key=world.subnet), key=world.subnet)
    with pytest.raises(CertificateError, match="not signed with the root key"):
        certificate.verify(world.root.public_key_der, canister_id(1), now=world.now)


def test_a_certificate_signed_by_the_root_under_a_delegation_is_refused(world, canister_id):
    certificate = world.certificate(delegation=world.delegation(), key=world.root)
    with pytest.raises(CertificateError, match="signature is not the subnet's"):
        certificate.verify(world.root.public_key_der, canister_id(1), now=world.now)


def test_a_delegation_of_a_delegation_is_refused(world, canister_id):
    nested = world.delegation(nested=world.delegation())
    certificate = world.certificate(delegation=nested, key=world.subnet)
    with pytest.raises(CertificateError, match="one level"):
        certificate.verify(world.root.public_key_der, canister_id(1), now=world.now)


def test_a_delegation_that_does_not_show_the_subnet_s_key_is_refused(world, canister_id):
    root = wire.Certificate.from_cbor(world.delegation().certificate)
    hidden = root.pruned([(b"canister_ranges",)])
    delegation = wire.SubnetDelegation(world.subnet_id, hidden.to_cbor())
    certificate = world.certificate(delegation=delegation, key=world.subnet)
    with pytest.raises(CertificateError, match="does not show the public key"):
        certificate.verify(world.root.public_key_der, canister_id(1), now=world.now)


def test_a_delegation_that_hides_its_ranges_is_refused(world, canister_id):
    root = wire.Certificate.from_cbor(world.delegation().certificate)
    hidden = root.pruned([(b"subnet",)])
    delegation = wire.SubnetDelegation(world.subnet_id, hidden.to_cbor())
    certificate = world.certificate(delegation=delegation, key=world.subnet)
    certificate.verify(world.root.public_key_der, now=world.now)
    with pytest.raises(CertificateError, match="may not speak of"):
        certificate.verify(world.root.public_key_der, canister_id(1), now=world.now)


def test_the_expected_subnet_must_have_signed(world):
    root_id = Principal.self_authenticating(world.root.public_key_der)
    certificate = world.certificate()
    certificate.verify(world.root.public_key_der, now=world.now, subnet_id=root_id)
    with pytest.raises(CertificateError, match="not of"):
        certificate.verify(world.root.public_key_der, now=world.now, subnet_id=world.subnet_id)


@pytest.mark.parametrize(
    ("age", "message"),
    [(299, None), (301, "301 s old"), (-299, None), (-301, "301 s in the future")],
)
def test_certificates_are_fresh_within_five_minutes_either_way(world, age, message):
    certificate = world.certificate(time=world.now - age * SECOND)
    if message is None:
        certificate.verify(world.root.public_key_der, now=world.now)
    else:
        with pytest.raises(CertificateError, match=message):
            certificate.verify(world.root.public_key_der, now=world.now)
        certificate.verify(world.root.public_key_der, now=world.now, max_age=None)


def test_delegations_may_be_weeks_old_but_not_months(world, canister_id):
    for days, accepted in ((29, True), (31, False)):
        delegation = world.delegation(time=world.now - days * DAY)
        certificate = world.certificate(delegation=delegation, key=world.subnet)
        if accepted:
            certificate.verify(world.root.public_key_der, canister_id(1), now=world.now)
        else:
            with pytest.raises(CertificateError, match="delegation is"):
                certificate.verify(world.root.public_key_der, canister_id(1), now=world.now)


def test_a_certificate_without_time_is_refused(world):
    tree = hashtree.build({b"a": b"b"})
    certificate = wire.Certificate.sign(tree, world.root)
    with pytest.raises(CertificateError, match="time"):
        certificate.verify(world.root.public_key_der, now=world.now)


def test_what_is_pruned_is_not_taken_for_absent(world):
    certificate = world.certificate({b"request_status": {b"id": {b"status": b"replied"}}})
    with pytest.raises(CertificateError, match="nor denies /request_status/id/status"):
        certificate.pruned([]).value((b"request_status", b"id", b"status"))


def test_a_changed_value_breaks_the_signature(world):
    data = world.certificate({b"a": b"value"}).to_cbor()
    changed = wire.Certificate.from_cbor(data.replace(b"value", b"valuf"))
    with pytest.raises(CertificateError, match="signature"):
        changed.verify(world.root.public_key_der, now=world.now)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not CBOR"),
        (b"\xd9\xd9\xf7", "not CBOR"),
        (b"\x80", "not a CBOR map"),
        (cbor2.dumps({}), "tree and a signature"),
        (cbor2.dumps({"tree": [0]}), "tree and a signature"),
        (cbor2.dumps({"tree": [9], "signature": b""}), "node"),
        (cbor2.dumps({"tree": [0], "signature": b"", "delegation": 1}), "delegation"),
        (cbor2.dumps({"tree": [0], "signature": b"", "delegation": {}}), "delegation"),
    ],
)
def test_malformed_certificates_are_refused(data, message):
    with pytest.raises(CertificateError, match=message):
        wire.Certificate.from_cbor(data)


def test_truncated_certificates_are_refused(world):
    data = world.certificate(delegation=world.delegation(), key=world.subnet).to_cbor()
    for length in range(0, len(data), 7):
        with pytest.raises(CertificateError):
            wire.Certificate.from_cbor(data[:length])


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x81\x01", b"\x81\x81\x41a", b"\x81\x82\x01\x02"])
def test_malformed_ranges_are_refused(data):
    with pytest.raises(CertificateError, match="ranges"):
        wire.decode_ranges(data)


def test_the_wrong_kind_of_root_key_is_named(world):
    with pytest.raises(CertificateError, match="133 bytes"):
        world.certificate().verify(world.root.public_key, now=world.now)


def test_padded_delegations_are_not_kept_in_memory(world, canister_id):
    honest = cbor2.loads(world.delegation().certificate[3:])
    tracemalloc.start()
    try:
        for number in range(20):
            padded = wire.encode({**honest, "padding": bytes([number]) * (1 << 20)})
            delegation = wire.SubnetDelegation(world.subnet_id, padded)
            certificate = world.certificate(delegation=delegation, key=world.subnet)
            certificate.verify(world.root.public_key_der, canister_id(1), now=world.now)
        del padded, delegation, certificate
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 << 20
