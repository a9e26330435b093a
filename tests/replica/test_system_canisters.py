"""What tools expect beside subnets: ICP ledger, cycles minting canister, cycles ledger."""

from functools import cache
from pathlib import Path

import pytest

from bridge import candid
from bridge.agent import Agent, Identity
from bridge.candid import Case
from bridge.errors import CallRejectedError, ReplicaError
from bridge.principal import Principal
from bridge.replica import Replica, system_canisters
from bridge.replica.state.messages import Reject, Reply
from bridge.replica.system_canisters import (
    CYCLES_LEDGER,
    CYCLES_MINTING_CANISTER,
    ICP_LEDGER,
    USER_CYCLES,
    USER_E8S,
    XDR_PERMYRIAD_PER_ICP,
)

SOURCES = Path(__file__).resolve().parents[2] / "motoko_reference" / "system"
NAMES = {
    CYCLES_LEDGER: "cycles_ledger",
    CYCLES_MINTING_CANISTER: "cycles_minting",
    ICP_LEDGER: "icp_ledger",
}
ALICE = Principal.self_authenticating(b"alice")
BOB = Principal.self_authenticating(b"bob")
FEE = 100_000_000
T = 10**12
DAY = 86_400 * 10**9
MINT, TOP_UP, CREATE = 0x544E494D, 0x50555054, 0x41455243


@cache
def interface(canister):
    text = (SOURCES / f"{NAMES[canister]}.did").read_text(encoding="utf-8")
    return candid.parse_did(text).service.methods


def test_one_that_cannot_be_installed_is_told_why_and_installed_at_the_next_start(
    driver, monkeypatch
):
    packaged = system_canisters.contracts.motoko_canister
    with monkeypatch.context() as damaged:
        damaged.setattr(
            system_canisters.contracts, "motoko_canister", lambda name: packaged(name)[:1000]
        )
        with pytest.raises(ReplicaError, match=r"icp_ledger could not be .* is not valid"):
            system_canisters.install_missing(driver.machine)
    system_canisters.install_missing(driver.machine)
    assert {name for name in NAMES if driver.canisters[name].module_hash} == set(NAMES)


class System:
    """The three canisters on a driver, called by their interfaces."""

    def __init__(self, driver):
        self.driver = driver
        system_canisters.install_missing(driver.machine)
        driver.settle()

    def _decoded(self, canister, method, answer):
        assert isinstance(answer, Reply), answer
        values = candid.decode(interface(canister)[method].results, answer.data)
        return values[0] if values else None

    def call(self, canister, method, *values, sender=ALICE):
        arg = candid.encode(interface(canister)[method].args, list(values))
        answer = self.driver.call(canister, method, arg, sender=sender)
        return self._decoded(canister, method, answer)

    def ask(self, canister, method, *values, sender=ALICE):
        arg = candid.encode(interface(canister)[method].args, list(values))
        return self._decoded(
            canister, method, self.driver.query(canister, arg, method=method, sender=sender)
        )

    def cycles(self, owner, subaccount=None):
        return self.ask(CYCLES_LEDGER, "icrc1_balance_of", account(owner, subaccount))

    def icp(self, owner):
        return self.ask(ICP_LEDGER, "icrc1_balance_of", account(owner))

    def transfer(self, amount, to=BOB, *, sender=ALICE, ledger=CYCLES_LEDGER, **more):
        return self.call(ledger, "icrc1_transfer", transfer(amount, to, **more), sender=sender)

    def pay_for(self, who, e8s, memo, *, sender=ALICE):
        """Pay ICP to the minting canister; the block."""
        sub = bytes([len(who.raw)]) + who.raw
        to = self.ask(
            ICP_LEDGER, "account_identifier", account(CYCLES_MINTING_CANISTER, sub.ljust(32, b"\0"))
        )
        paid = self.call(ICP_LEDGER, "transfer", legacy(to, e8s, memo=memo), sender=sender)
        assert paid.label == "Ok", paid
        return paid.value


def account(owner, subaccount=None):
    return {"owner": owner, "subaccount": subaccount}


def transfer(amount, to, **more):
    empty = dict.fromkeys(("from_subaccount", "fee", "memo", "created_at_time"))
    return {"to": account(to), "amount": amount, **empty, **more}


def legacy(to, e8s, *, memo=0, fee=10_000, created=None):
    return {
        "memo": memo,
        "amount": {"e8s": e8s},
        "fee": {"e8s": fee},
        "from_subaccount": None,
        "to": to,
        "created_at_time": None if created is None else {"timestamp_nanos": created},
    }


def creation(amount, *, subnet=None, settings=None):
    selection = None if subnet is None else Case("Subnet", {"subnet": subnet})
    return {
        "from_subaccount": None,
        "created_at_time": None,
        "amount": amount,
        "creation_args": {"subnet_selection": selection, "settings": settings},
    }


@pytest.fixture
def system(make_driver):
    return System(make_driver(update=1_000_000_000))


# --- Balances -----------------------------------------------------------------------------------


@pytest.mark.covers("cycles: balance and transfer")
@pytest.mark.covers("ICP: balance and transfer")
def test_every_user_holds_cycles_and_icp_from_the_beginning_and_canisters_hold_none(system):
    for user in (ALICE, BOB, Principal.anonymous()):
        assert system.cycles(user) == USER_CYCLES
        assert system.icp(user) == USER_E8S
    assert system.cycles(ALICE, b"\1" * 32) == 0
    assert system.cycles(CYCLES_MINTING_CANISTER) == 0
    assert system.icp(CYCLES_LEDGER) == 0
    assert system.ask(CYCLES_LEDGER, "icrc1_total_supply") == 0


@pytest.mark.covers("cycles: balance and transfer")
def test_a_transfer_moves_cycles_and_its_fee_is_gone(system):
    assert system.transfer(3 * T) == Case("Ok", 1)
    assert system.cycles(ALICE) == USER_CYCLES - 3 * T - FEE
    assert system.cycles(BOB) == USER_CYCLES + 3 * T
    # Bob's own have not been drawn upon; Alice's have.
    assert system.ask(CYCLES_LEDGER, "icrc1_total_supply") == USER_CYCLES - FEE


def test_nobody_spends_more_than_there_is_or_twice_what_was_there_at_the_beginning(system):
    broke = system.transfer(USER_CYCLES)
    assert broke == Case("Err", Case("InsufficientFunds", {"balance": USER_CYCLES}))
    assert system.transfer(USER_CYCLES - FEE).label == "Ok"
    assert system.cycles(ALICE) == 0
    assert system.transfer(1) == Case("Err", Case("InsufficientFunds", {"balance": 0}))
    assert system.transfer(1, sender=BOB, fee=1) == Case(
        "Err", Case("BadFee", {"expected_fee": FEE})
    )


def test_subaccounts_are_accounts_of_their_own(system):
    sub = b"\7" * 32
    assert system.transfer(T, to=ALICE, from_subaccount=sub).value.label == "InsufficientFunds"
    to_sub = {**transfer(2 * T, ALICE), "to": account(ALICE, sub)}
    assert system.call(CYCLES_LEDGER, "icrc1_transfer", to_sub).label == "Ok"
    assert system.cycles(ALICE, sub) == 2 * T
    assert system.transfer(T, to=BOB, from_subaccount=sub).label == "Ok"
    assert system.cycles(ALICE, sub) == T - FEE
    wrong = candid.encode(
        interface(CYCLES_LEDGER)["icrc1_balance_of"].args, [account(ALICE, b"short")]
    )
    answer = system.driver.query(CYCLES_LEDGER, wrong, method="icrc1_balance_of")
    assert isinstance(answer, Reject)
    assert "32 bytes" in answer.message


@pytest.mark.parametrize("ledger", [CYCLES_LEDGER, ICP_LEDGER])
def test_a_transaction_that_tells_its_time_is_executed_once_within_a_day(system, ledger):
    now = system.driver.machine.clock.now()
    first = system.transfer(1000, created_at_time=now, ledger=ledger)
    again = system.transfer(1000, created_at_time=now, ledger=ledger)
    assert again == Case("Err", Case("Duplicate", {"duplicate_of": first.value}))
    assert system.transfer(1001, created_at_time=now, ledger=ledger).label == "Ok"
    assert system.transfer(1000, ledger=ledger).label == "Ok"
    assert system.transfer(1000, ledger=ledger).label == "Ok"
    old = system.transfer(1000, created_at_time=now - 2 * DAY, ledger=ledger)
    assert old == Case("Err", Case("TooOld"))
    early = system.transfer(1000, created_at_time=now + 3600 * 10**9, ledger=ledger)
    assert early.value.label == "CreatedInFuture"


@pytest.mark.covers("allowances")
def test_an_allowance_is_spent_and_ends(system):
    def approval(amount, **more):
        names = ("from_subaccount", "expected_allowance", "expires_at", "fee", "memo")
        return {
            "spender": account(BOB), "amount": amount, "created_at_time": None,
            **dict.fromkeys(names), **more,
        }  # fmt: skip

    def spend(amount):
        names = ("spender_subaccount", "fee", "memo", "created_at_time")
        order = {"from": account(ALICE), "to": account(BOB), "amount": amount}
        return system.call(
            CYCLES_LEDGER, "icrc2_transfer_from", {**order, **dict.fromkeys(names)}, sender=BOB
        )

    def left():
        ask = {"account": account(ALICE), "spender": account(BOB)}
        return system.ask(CYCLES_LEDGER, "icrc2_allowance", ask)["allowance"]

    assert spend(T) == Case("Err", Case("InsufficientAllowance", {"allowance": 0}))
    assert system.call(CYCLES_LEDGER, "icrc2_approve", approval(5 * T)).label == "Ok"
    assert spend(2 * T).label == "Ok"
    assert left() == 3 * T - FEE
    assert system.cycles(BOB) == USER_CYCLES + 2 * T
    assert system.cycles(ALICE) == USER_CYCLES - 2 * T - 2 * FEE
    assert spend(3 * T).value.label == "InsufficientAllowance"
    changed = system.call(CYCLES_LEDGER, "icrc2_approve", approval(T, expected_allowance=1))
    assert changed.value == Case("AllowanceChanged", {"current_allowance": 3 * T - FEE})
    until = system.driver.machine.clock.now() + 10**9
    assert system.call(CYCLES_LEDGER, "icrc2_approve", approval(T, expires_at=until)).label == "Ok"
    system.driver.advance(2 * 10**9)
    assert left() == 0
    assert spend(1).value.label == "InsufficientAllowance"


def test_the_ledgers_say_what_they_are(system):
    assert system.ask(CYCLES_LEDGER, "icrc1_symbol") == "TCYCLES"
    assert system.ask(CYCLES_LEDGER, "icrc1_decimals") == 12
    assert system.ask(CYCLES_LEDGER, "icrc1_fee") == FEE
    metadata = dict(system.ask(ICP_LEDGER, "icrc1_metadata"))
    assert metadata["icrc1:symbol"] == Case("Text", "ICP")
    assert metadata["icrc1:fee"] == Case("Nat", 10_000)
    standards = [entry["name"] for entry in system.ask(ICP_LEDGER, "icrc1_supported_standards")]
    assert standards == ["ICRC-1", "ICRC-2"]


# --- Cycles that canisters hold -----------------------------------------------------------------


@pytest.mark.covers("canisters created by the cycles ledger")
def test_a_canister_is_created_with_the_cycles_that_its_creator_pays(system):
    subnet = system.driver.machine.subnet.keys.subnet_id
    assert system.ask(CYCLES_MINTING_CANISTER, "get_default_subnets") == [subnet]
    made = system.call(CYCLES_LEDGER, "create_canister", creation(2 * T, subnet=subnet))
    assert made.label == "Ok"
    canister = system.driver.canisters[made.value["canister_id"]]
    assert canister.cycles == 2 * T
    assert canister.settings.controllers == (ALICE,)
    assert system.cycles(ALICE) == USER_CYCLES - 2 * T - FEE


@pytest.mark.covers("canisters created by the cycles ledger")
def test_a_canister_that_cannot_be_created_costs_the_fee_only(system):
    elsewhere = Principal.self_authenticating(b"another subnet")
    failed = system.call(CYCLES_LEDGER, "create_canister", creation(2 * T, subnet=elsewhere))
    assert failed.value.label == "FailedToCreate"
    assert str(elsewhere) in failed.value.value["error"]
    settings = {
        "controllers": None, "compute_allocation": 101, "memory_allocation": None,
        "freezing_threshold": None, "reserved_cycles_limit": None,
    }  # fmt: skip
    failed = system.call(CYCLES_LEDGER, "create_canister", creation(2 * T, settings=settings))
    assert failed.value.label == "FailedToCreate"
    assert "compute_allocation" in failed.value.value["error"]
    assert system.cycles(ALICE) == USER_CYCLES - 2 * FEE
    assert len(system.driver.canisters) == 3


def withdrawal(amount, to):
    return {"amount": amount, "from_subaccount": None, "to": to, "created_at_time": None}


@pytest.mark.covers("cycles: withdrawal to a canister")
def test_cycles_are_withdrawn_to_canisters_that_exist(system, universal_wasm):
    canister = system.driver.create(universal_wasm(True), cycles=5)
    done = system.call(CYCLES_LEDGER, "withdraw", withdrawal(T, canister))
    assert done.label == "Ok"
    assert system.driver.canisters[canister].cycles == T + 5
    assert system.cycles(ALICE) == USER_CYCLES - T - FEE
    missing = Principal(bytes(8) + b"\1\1")
    failed = system.call(CYCLES_LEDGER, "withdraw", withdrawal(T, missing)).value
    assert failed.label == "FailedToWithdraw"
    assert failed.value["rejection_code"] == Case("DestinationInvalid")
    assert system.cycles(ALICE) == USER_CYCLES - T - 2 * FEE
    to_user = system.call(CYCLES_LEDGER, "withdraw", withdrawal(T, BOB))
    assert to_user == Case("Err", Case("InvalidReceiver", {"receiver": BOB}))


@pytest.mark.covers("cycles: deposit by a canister")
def test_a_deposit_credits_the_cycles_attached_less_the_fee(system, universal_wasm, program):
    canister = system.driver.create(universal_wasm(True), cycles=10 * T)
    arg = candid.encode(
        interface(CYCLES_LEDGER)["deposit"].args, [{"to": account(BOB), "memo": None}]
    )

    def deposit(amount):
        made = program().call(
            CYCLES_LEDGER.raw, "deposit", arg, cycles=amount,
            reply=program().reply(b"done"), reject=program().trap("refused"),
        )  # fmt: skip
        return system.driver.call(canister, "update", made.drop())

    answer = deposit(3 * T)
    assert isinstance(answer, Reply), answer
    assert system.cycles(BOB) == USER_CYCLES + 3 * T - FEE
    assert system.driver.canisters[canister].cycles == 7 * T
    assert isinstance(deposit(FEE - 1), Reject)
    assert system.driver.canisters[canister].cycles == 7 * T


# --- ICP to cycles ------------------------------------------------------------------------------


def minting(block, **more):
    return {"block_index": block, "to_subaccount": None, "deposit_memo": None, **more}


@pytest.mark.covers("ICP to cycles, to a canister, to a top-up")
def test_icp_become_cycles_once_for_each_payment(system):
    block = system.pay_for(ALICE, 200_000_000, MINT)
    minted = 200_000_000 * XDR_PERMYRIAD_PER_ICP
    done = system.call(CYCLES_MINTING_CANISTER, "notify_mint_cycles", minting(block))
    assert done.label == "Ok"
    assert done.value["minted"] == minted
    assert system.cycles(ALICE) == USER_CYCLES + minted - FEE
    again = system.call(CYCLES_MINTING_CANISTER, "notify_mint_cycles", minting(block))
    assert again == done
    assert system.cycles(ALICE) == USER_CYCLES + minted - FEE
    # The ICP are gone, with the fee of the payment.
    assert system.icp(ALICE) == USER_E8S - 200_010_000
    assert system.ask(ICP_LEDGER, "icrc1_total_supply") == USER_E8S - 200_010_000


@pytest.mark.parametrize(
    ("payer", "memo", "notifier"),
    [(ALICE, MINT, BOB), (ALICE, TOP_UP, ALICE), (ALICE, 0, ALICE)],
)
def test_a_payment_serves_only_whom_and_what_it_was_made_for(system, payer, memo, notifier):
    block = system.pay_for(payer, 100_000_000, memo, sender=payer)
    refused = system.call(
        CYCLES_MINTING_CANISTER, "notify_mint_cycles", minting(block), sender=notifier
    )
    assert refused.value.label == "InvalidTransaction"
    assert system.cycles(notifier) == USER_CYCLES


@pytest.mark.covers("ICP to cycles, to a canister, to a top-up")
def test_a_payment_tops_up_or_creates_a_canister(system, universal_wasm):
    canister = system.driver.create(universal_wasm(True), cycles=0)
    cycles = 100_000_000 * XDR_PERMYRIAD_PER_ICP
    block = system.pay_for(canister, 100_000_000, TOP_UP)
    order = {"block_index": block, "canister_id": canister}
    done = system.call(CYCLES_MINTING_CANISTER, "notify_top_up", order)
    assert done == Case("Ok", cycles)
    assert system.driver.canisters[canister].cycles == cycles

    block = system.pay_for(ALICE, 100_000_000, CREATE)
    order = {
        "block_index": block, "controller": ALICE, "subnet_type": None,
        "subnet_selection": None, "settings": None,
    }  # fmt: skip
    made = system.call(CYCLES_MINTING_CANISTER, "notify_create_canister", order)
    assert made.label == "Ok"
    assert system.driver.canisters[made.value].cycles == cycles
    assert system.driver.canisters[made.value].settings.controllers == (ALICE,)


@pytest.mark.covers("ICP: balance and transfer")
def test_the_icp_ledger_shows_its_blocks(system):
    to = system.ask(ICP_LEDGER, "account_identifier", account(BOB))
    sent = system.call(ICP_LEDGER, "transfer", legacy(to, 5_000_000, memo=7))
    shown = system.ask(ICP_LEDGER, "query_blocks", {"start": sent.value, "length": 5})
    assert shown["chain_length"] == sent.value + 1
    (block,) = shown["blocks"]
    operation = block["transaction"]["operation"]
    assert operation.label == "Transfer"
    assert operation.value["to"] == to
    assert operation.value["amount"] == {"e8s": 5_000_000}
    assert block["transaction"]["memo"] == 7
    assert system.ask(ICP_LEDGER, "account_balance", {"account": to}) == {"e8s": 5_000_000}
    bad = system.call(ICP_LEDGER, "transfer", legacy(to, 1, fee=1))
    assert bad == Case("Err", Case("BadFee", {"expected_fee": {"e8s": 10_000}}))


def test_all_that_users_hold_is_backed_by_cycles_of_the_ledger(system, universal_wasm):
    def backing():
        canisters = system.driver.canisters
        return sum(canister.cycles + canister.burned for canister in canisters.values())

    before = backing()
    system.transfer(T)
    made = system.call(CYCLES_LEDGER, "create_canister", creation(3 * T)).value["canister_id"]
    system.call(CYCLES_LEDGER, "withdraw", withdrawal(T, made))
    block = system.pay_for(ALICE, 100_000_000, MINT)
    system.call(CYCLES_MINTING_CANISTER, "notify_mint_cycles", minting(block))
    assert backing() == before
    assert system.driver.canisters[made].cycles == 4 * T


# --- Standing on the subnet ---------------------------------------------------------------------


def test_they_are_installed_once_and_keep_what_they_know(system):
    system.transfer(T)
    system_canisters.install_missing(system.driver.machine)
    assert system.cycles(BOB) == USER_CYCLES + T


def test_nobody_can_change_them_and_no_canister_takes_their_ids(system):
    answer = system.driver.manage_raw("stop_canister", {"canister_id": CYCLES_LEDGER})
    assert isinstance(answer, Reject)
    assert "Only controllers" in answer.message
    taken = system.driver.manage_raw(
        "provisional_create_canister_with_cycles",
        {
            "amount": None,
            "settings": None,
            "specified_id": CYCLES_LEDGER,
            "sender_canister_version": None,
        },
    )
    assert isinstance(taken, Reject)
    for _ in range(3):
        assert system.driver.create() not in NAMES


async def test_a_state_directory_keeps_balances(tmp_path):
    async def ask(replica, owner):
        async with Agent(replica.url, root_key=replica.root_key) as agent:
            method = interface(CYCLES_LEDGER)["icrc1_balance_of"]
            arg = candid.encode(method.args, [account(owner)])
            (balance,) = candid.decode(
                method.results, await agent.query(CYCLES_LEDGER, "icrc1_balance_of", arg)
            )
            return balance

    identity = Identity.generate()
    async with (
        Replica(state_dir=tmp_path / "state", system_canisters=True) as replica,
        Agent(replica.url, identity, root_key=replica.root_key) as agent,
    ):
        arg = candid.encode(interface(CYCLES_LEDGER)["icrc1_transfer"].args, [transfer(5 * T, BOB)])
        await agent.update(CYCLES_LEDGER, "icrc1_transfer", arg)
    async with Replica(state_dir=tmp_path / "state", system_canisters=True) as replica:
        assert await ask(replica, BOB) == USER_CYCLES + 5 * T
        assert await ask(replica, identity.principal) == USER_CYCLES - 5 * T - FEE


async def test_they_stand_only_where_they_are_asked_for():
    async with Replica() as replica, Agent(replica.url, root_key=replica.root_key) as agent:
        with pytest.raises(CallRejectedError, match="not found"):
            await agent.query(CYCLES_MINTING_CANISTER, "get_default_subnets")


def test_the_same_seed_and_time_give_the_same_ids(make_driver):
    def first_canister(driver):
        made = System(driver).call(CYCLES_LEDGER, "create_canister", creation(T))
        return made.value["canister_id"]

    assert first_canister(make_driver()) == first_canister(make_driver())
