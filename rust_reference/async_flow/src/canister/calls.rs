//! How messages leave: into an agent's outbox, or as a one-way call, alone or with others in a batch.

use std::collections::BTreeMap;

use candid::Principal;
use ic_cdk::api::time;
use ic_cdk::call::Call;

use super::node::Node;
use crate::dialect::{self, BATCH_BYTES, BATCH_MESSAGES, BATCH_METHOD};
use crate::event::Transmit;
use crate::message::Kind;
use crate::words::{classify, Class, Dialect, Key};

const SECOND: u64 = 1_000_000_000;

/// What may travel together, by peer, while a tick works.
pub(crate) type Gathered = BTreeMap<Principal, Vec<(Key, Transmit)>>;

impl Node {
    pub(crate) fn has_room(&self, peer: &Principal) -> bool {
        classify(peer) != Class::Canister
            || self.store.in_flight.count(peer) < self.store.meta.policy.in_flight
    }

    /// The bounded wait of a call, in whole seconds.
    fn timeout(&self) -> u32 {
        let seconds = self.store.meta.policy.call_timeout.div_ceil(SECOND).clamp(1, 300);
        u32::try_from(seconds).unwrap_or(300)
    }

    fn until(&self, kind: Kind) -> u64 {
        let policy = &self.store.meta.policy;
        let wait = match kind {
            Kind::Fin => policy.send_retry,
            _ => policy.call_timeout.saturating_add(policy.call_margin),
        };
        time().saturating_add(wait)
    }

    /// Gives the transmission back if it certainly did not leave. What is gathered counts as left
    /// until `flush`.
    pub(crate) fn transmit(&mut self, key: Key, t: Transmit) -> Option<Transmit> {
        if classify(&t.peer) == Class::Agent {
            let (meta, outbox) = (&mut self.store.meta, &mut self.store.outbox);
            let left = outbox.put(t.peer, &t.message, &mut meta.next_seq, &meta.policy);
            return self.done(t, left);
        }
        // What went in a batch and was not answered is retried alone, so every second attempt is.
        let may_join = t.attempt % 2 == 1
            && t.dialect == Dialect::Unified
            && self.store.meta.peers.takes_batches(&t.peer);
        if let (true, Some(gathered)) = (may_join, &mut self.gathered) {
            gathered.entry(t.peer).or_default().push((key, t));
            return None;
        }
        self.alone(t)
    }

    fn alone(&mut self, t: Transmit) -> Option<Transmit> {
        let kind = t.message.kind();
        let cycles = self.store.meta.peers.attach(&t.peer, &self.store.meta.policy, kind);
        let (method, arg) = dialect::call_for(t.dialect, &t.message);
        let left = self.call(t.peer, method, &arg, cycles);
        if left {
            let until = self.until(kind);
            self.store.in_flight.started(t.peer, [(kind, t.message.msg_id())], until);
        }
        self.done(t, left)
    }

    /// A bounded-wait one-way call; whether it left.
    fn call(&self, peer: Principal, method: &str, arg: &[u8], cycles: u128) -> bool {
        let call = Call::bounded_wait(peer, method).change_timeout(self.timeout());
        call.with_raw_args(arg).with_cycles(cycles).oneway().is_ok()
    }

    fn done(&mut self, t: Transmit, left: bool) -> Option<Transmit> {
        self.store.meta.peers.sent(&t.peer);
        let kind = t.message.kind().name();
        let counter = if left { format!("sent.{kind}") } else { format!("not_sent.{kind}") };
        self.store.count(&counter);
        (!left).then_some(t)
    }

    /// From now on, within this message, what may travel together waits for `flush`.
    pub(crate) fn gather(&mut self) {
        self.gathered = Some(Gathered::new());
    }

    /// Sends what was gathered; what certainly did not leave.
    pub(crate) fn flush(&mut self) -> Vec<(Key, Transmit)> {
        let mut lost = Vec::new();
        for (peer, all) in self.gathered.take().unwrap_or_default() {
            let mut group = Vec::new();
            let mut bytes = 0;
            for one in all {
                let size = one.1.message.size();
                let full = group.len() >= BATCH_MESSAGES || bytes + size > BATCH_BYTES;
                if full && !group.is_empty() {
                    lost.extend(self.together(peer, std::mem::take(&mut group)));
                    bytes = 0;
                }
                group.push(one);
                bytes += size;
            }
            lost.extend(self.together(peer, group));
        }
        lost
    }

    fn together(
        &mut self,
        peer: Principal,
        mut group: Vec<(Key, Transmit)>,
    ) -> Vec<(Key, Transmit)> {
        if group.len() < 2 {
            let Some((key, one)) = group.pop() else { return group };
            return self.alone(one).map(|t| (key, t)).into_iter().collect();
        }
        let messages: Vec<_> = group.iter().map(|(_, t)| &t.message).collect();
        let arg = dialect::batch(&messages);
        let slots: Vec<_> = messages.iter().map(|m| (m.kind(), m.msg_id())).collect();
        let meta = &self.store.meta;
        let cycles =
            slots.iter().map(|(kind, _)| meta.peers.attach(&peer, &meta.policy, *kind)).sum();
        let left = self.call(peer, BATCH_METHOD, &arg, cycles);
        if left {
            let until = slots.iter().map(|(kind, _)| self.until(*kind)).max().unwrap_or(0);
            self.store.in_flight.started(peer, slots, until);
            self.store.count("sent.batch");
        }
        group.into_iter().filter_map(|(key, t)| self.done(t, left).map(|t| (key, t))).collect()
    }
}
