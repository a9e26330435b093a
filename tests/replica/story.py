"""Random lives of a subnet: the same from the same seed and state."""

import random

from bridge.replica.scheduler.faults import REQUESTS, Action, Filter, Strike

SECOND = 1_000_000_000


class Story:
    """Random calls, management calls and time; the same from the same seed and state."""

    def __init__(self, driver, wasm, program, seed):
        self.driver, self.wasm, self.program = driver, wasm, program
        self.chance = random.Random(seed)

    def run(self, steps):
        for _ in range(steps):
            step = self.chance.choice(
                [
                    self.create, self.write, self.write, self.call, self.call, self.timer,
                    self.trap, self.wait, self.stop, self.start, self.upgrade, self.upload,
                    self.keep, self.load, self.fault, self.delete, self.wait_long, self.settings,
                    self.uninstall, self.query, self.forget, self.clear,
                ]
            )  # fmt: skip
            step()

    def some(self):
        return self.chance.choice([*self.driver.canisters] or [self.create()])

    def submit(self, canister, program):
        # Without waiting: what is left open is part of the state.
        self.driver.submit(canister, "update", program)
        if self.chance.random() < 0.8:
            self.driver.settle()

    def manage(self, method, **value):
        self.driver.manage_raw(method, value)

    def create(self):
        return self.driver.create(self.wasm)

    def write(self):
        number, place = self.chance.randrange(2**32), self.chance.randrange(8) * 1024
        grow = self.chance.choice([0, 0, 0, 1, 3])
        code = self.program().store(40_000 + place, number).set_counter(number)
        code.push(grow).stable64_grow().drop().push(grow).stable64_size().drop().drop()
        code.certified_data_set(bytes([number % 256]) * 32)
        if grow:
            code.grow(grow).drop()
        self.submit(self.some(), code.append_blob_of("msg_arg_data").reply(b"written"))

    def call(self):
        callee = self.some()
        on_reply = self.program().append_blob_of("msg_arg_data").reply()
        code = self.program().call(
            callee.raw, "update", self.program().counter().append_number().reply(),
            reply=on_reply, reject=self.program().reply(b"no"),
            timeout=self.chance.choice([None, 5]), cycles=self.chance.randrange(1000),
        ).drop()  # fmt: skip
        self.submit(self.some(), code)

    def timer(self):
        fired = self.program().hook("canister_global_timer", self.program().set_counter(7))
        after = self.chance.randrange(1, 5) * SECOND
        self.submit(
            self.some(), fired.time().push(after).add().global_timer_set().drop().reply(b"")
        )

    def trap(self):
        self.submit(self.some(), self.program().set_counter(1).trap("on purpose"))

    def wait(self):
        self.driver.advance(self.chance.randrange(3 * SECOND))

    def wait_long(self):
        self.driver.advance(200 * SECOND)

    def stop(self):
        self.manage("stop_canister", canister_id=self.some())

    def start(self):
        self.manage("start_canister", canister_id=self.some())

    def delete(self):
        if len(self.driver.canisters) > 3:
            canister = self.some()
            self.manage("stop_canister", canister_id=canister)
            self.manage("delete_canister", canister_id=canister)

    def upgrade(self):
        mode = self.chance.choice(["upgrade", "reinstall"])
        self.driver.install_raw(self.some(), self.wasm, mode=mode)
        self.driver.install_raw(self.some(), self.wasm)

    def upload(self):
        self.manage(
            "upload_chunk", canister_id=self.some(), chunk=self.chance.randbytes(100)
        )  # fmt: skip

    def keep(self):
        self.manage(
            "take_canister_snapshot", canister_id=self.some(), replace_snapshot=None,
            uninstall_code=None, sender_canister_version=None,
        )  # fmt: skip

    def load(self):
        canister = self.some()
        kept = list(self.driver.canisters[canister].snapshots)
        if kept:
            self.manage(
                "load_canister_snapshot", canister_id=canister,
                snapshot_id=self.chance.choice(kept), sender_canister_version=None,
            )  # fmt: skip

    def forget(self):
        canister = self.some()
        kept = list(self.driver.canisters[canister].snapshots)
        if kept:
            self.manage("delete_canister_snapshot", canister_id=canister, snapshot_id=kept[0])

    def clear(self):
        self.manage("clear_chunk_store", canister_id=self.some())

    def settings(self):
        self.driver.update_settings(
            self.some(), log_memory_limit=4096 * self.chance.randrange(1, 5)
        )

    def uninstall(self):
        self.manage("uninstall_code", canister_id=self.some(), sender_canister_version=None)

    def query(self):
        self.driver.query(self.some(), self.program().set_counter(3).reply(b""))

    def fault(self):
        self.driver.machine.faults.add(
            Filter(REQUESTS, receiver=self.some()), 2, Strike(Action.DELAY, nanoseconds=SECOND)
        )
