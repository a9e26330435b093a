//! What peers, monitors and controllers call: one macro makes the methods.

use crate::dialect::{message_from, messages_from, Unreadable, BATCH_METHOD};
use crate::words::Dialect;

/// A method's argument as it came; for `decode_with`.
pub fn raw(arg: Vec<u8>) -> Vec<u8> {
    arg
}

/// A call of a dialect, as it came. What is no message traps: to its sender it is as if it were lost.
pub fn receive_call(dialect: Dialect, method: &str, arg: &[u8]) {
    let caller = ic_cdk::api::msg_caller();
    let done = if method == BATCH_METHOD {
        messages_from(arg).map(|entries| super::node::receive_batch(caller, entries))
    } else {
        match message_from(dialect, method, arg) {
            Err(Unreadable::Id) => {
                super::node::refuse_id(&caller);
                Ok(())
            }
            read => read.map(|message| super::node::receive(caller, dialect, message)),
        }
    };
    if let Err(unreadable) = done {
        ic_cdk::trap(format!("{method}: {unreadable}"));
    }
}

/// The methods of a canister that uses the library: the dialect `unified`, batches, the outbox, watching
/// and settings. Name one more dialect to serve it too: `async_flow::endpoint!(maf)`.
///
/// `async_flow::endpoint!(operations)` makes only what this canister itself and its monitors call, for a
/// canister that takes messages, serves outboxes and is configured by methods of its own.
#[macro_export]
macro_rules! endpoint {
    (maf) => {
        $crate::endpoint!();
        $crate::endpoint!(@dialect Maf: "com_asyncFlow_newMessage" => new, "com_asyncFlow_ack" => ack, "com_asyncFlow_fin" => fin);
    };
    (bounty) => {
        $crate::endpoint!();
        $crate::endpoint!(@dialect Bounty: "com_asyncFlow_newMessage" => new, "com_asyncFlow_ack" => ack, "com_asyncFlow_ackack" => fin);
    };
    (positional) => {
        $crate::endpoint!();
        $crate::endpoint!(@dialect Positional: "com_asyncFlow_newMessage" => new, "com_asyncFlow_ack" => ack, "com_asyncFlow_finish" => fin);
    };
    (@dialect $dialect:ident : $($method:literal => $name:ident),*) => {
        mod async_flow_dialect {
            $(#[::ic_cdk::update(name = $method, hidden = true, decode_with = "::async_flow::canister::raw")]
            fn $name(arg: Vec<u8>) {
                $crate::canister::receive_call($crate::words::Dialect::$dialect, $method, &arg);
            })*
        }
    };
    (operations) => {
        mod async_flow_operations {
            use $crate::canister as node;

            fn itself_only() -> Result<(), String> {
                node::works_on_itself().then_some(()).ok_or("only this canister itself may".to_string())
            }

            #[::ic_cdk::update(name = "async_flow_self", hidden = true, decode_with = "::async_flow::canister::raw", guard = "itself_only")]
            async fn work(arg: Vec<u8>) {
                node::work(arg).await;
            }

            fn monitors_only() -> Result<(), String> {
                node::may_watch(&::ic_cdk::api::msg_caller())
                    .then_some(())
                    .ok_or("only controllers and listed monitors may watch this canister".to_string())
            }

            #[::ic_cdk::query(name = "asyncFlow_status", hidden = true, guard = "monitors_only")]
            fn status() -> node::Status {
                node::status()
            }

            #[::ic_cdk::query(name = "asyncFlow_flows", hidden = true, guard = "monitors_only")]
            fn flows(page: node::FlowsQuery) -> node::FlowsPage {
                node::flows(page)
            }

            #[::ic_cdk::query(name = "asyncFlow_events", hidden = true, guard = "monitors_only")]
            fn events(page: node::EventsQuery) -> Vec<node::Change> {
                node::events(page)
            }
        }
    };
    () => {
        $crate::endpoint!(operations);

        mod async_flow_endpoint {
            use $crate::canister as node;
            use $crate::words::Dialect;

            #[::ic_cdk::update(name = "asyncFlow", hidden = true, decode_with = "::async_flow::canister::raw")]
            fn message(arg: Vec<u8>) {
                node::receive_call(Dialect::Unified, "asyncFlow", &arg);
            }

            #[::ic_cdk::update(name = "asyncFlow_batch", hidden = true, decode_with = "::async_flow::canister::raw")]
            fn batch(arg: Vec<u8>) {
                node::receive_call(Dialect::Unified, "asyncFlow_batch", &arg);
            }

            fn agents_only() -> Result<(), String> {
                node::has_outbox(&::ic_cdk::api::msg_caller())
                    .then_some(())
                    .ok_or("only agents on this canister's access list have an outbox".to_string())
            }

            #[::ic_cdk::query(name = "asyncFlow_outbox", hidden = true, guard = "agents_only")]
            fn outbox(page: node::OutboxQuery) -> Vec<node::OutboxEntry> {
                node::read_outbox(::ic_cdk::api::msg_caller(), page)
            }

            #[::ic_cdk::update(name = "asyncFlow_outbox_trim", hidden = true, guard = "agents_only")]
            fn trim(seq: u64) {
                node::trim_outbox(::ic_cdk::api::msg_caller(), seq);
            }

            fn controllers_only() -> Result<(), String> {
                ::ic_cdk::api::is_controller(&::ic_cdk::api::msg_caller())
                    .then_some(())
                    .ok_or("only controllers may configure this canister".to_string())
            }

            #[::ic_cdk::update(name = "asyncFlow_configure", hidden = true, guard = "controllers_only")]
            fn configure(change: node::Install) -> node::Configured {
                match node::configure(change) {
                    Ok(()) => node::Configured::Ok,
                    Err(reason) => node::Configured::Err(reason),
                }
            }
        }
    };
}
